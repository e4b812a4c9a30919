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
	n := t.last
	t.cancels[n] = cancel
	t.done.Go(func() {
		defer t.finish(n)
		work(ctx)
	})
	return true
}

func (t *tasks) finish(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancels[n]()
	delete(t.cancels, n)
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

func (r *removals) pending(hash string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.endings[hash]
	return ok
}

// add adds an ending, and reports whether the retries have to be started.
func (r *removals) add(e ending) (start bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.endings == nil {
		r.endings = map[string]ending{}
	}
	if known := r.endings[e.hash]; e.grave != nil || known.grave == nil {
		r.endings[e.hash] = e
	}
	start, r.running = !r.running, true
	return start
}

func (r *removals) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.endings)
}

// next returns any ending. If there is none, the retries are over.
func (r *removals) next() (e ending, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.endings {
		return e, true
	}
	r.running = false
	return ending{}, false
}

// stop records that the retries ended with deletions pending.
func (r *removals) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
}

func (r *removals) done(e ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.endings[e.hash] == e { // not one that was added since
		delete(r.endings, e.hash)
	}
}
