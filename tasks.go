package mongostore

import (
	"context"
	"sync"
)

// tasks are the store's background work. A task is started only when needed and ends with its
// work, so a store that is never closed leaks no goroutine.
type tasks struct {
	mu      sync.Mutex
	closed  bool
	cancels map[int]context.CancelFunc
	last    int
	done    sync.WaitGroup
}

// start runs work with the values of ctx, but without its cancellation. After close it does
// nothing and returns false.
func (t *tasks) start(ctx context.Context, work func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if t.cancels == nil {
		t.cancels = map[int]context.CancelFunc{}
	}
	t.last++
	id := t.last
	t.cancels[id] = cancel
	t.done.Go(func() {
		defer t.finish(id)
		work(ctx)
	})
	return true
}

func (t *tasks) finish(id int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancels[id]()
	delete(t.cancels, id)
}

// close cancels all work and waits until it has ended, as long as ctx allows. It reports whether
// this was the first call.
func (t *tasks) close(ctx context.Context) (first bool, err error) {
	t.mu.Lock()
	first, t.closed = !t.closed, true
	for _, cancel := range t.cancels {
		cancel()
	}
	t.mu.Unlock()

	ended := make(chan struct{})
	go func() {
		t.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return first, nil
	case <-ctx.Done():
		return first, ctx.Err()
	}
}

// removals are the sessions whose deletion has failed so far. This store treats them as
// ended. Without this list, a short outage of the database would lose a logout.
type removals struct {
	mu      sync.Mutex
	endings map[string]ending // by hash
	running bool
}

func (q *removals) pending(hash string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.endings[hash]
	return ok
}

// add adds an ending, and reports whether the retries have to be started.
func (q *removals) add(e ending) (start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.endings == nil {
		q.endings = map[string]ending{}
	}
	q.endings[e.hash] = e
	start, q.running = !q.running, true
	return start
}

func (q *removals) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.endings)
}

// next returns any ending. If there is none, the retries are over.
func (q *removals) next() (e ending, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.endings {
		return e, true
	}
	q.running = false
	return ending{}, false
}

// stop records that the retries ended with deletions pending.
func (q *removals) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running = false
}

func (q *removals) done(e ending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.endings[e.hash] == e { // not one that was added since
		delete(q.endings, e.hash)
	}
}
