package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// Orders, which are packed in the background: a session is changed while no request of its
// visitor is under way.

// Order is what a visitor has ordered last.
type Order struct {
	Packs    int
	Total    int // cents
	Placed   time.Time
	OnItsWay bool
}

const (
	keyOrder  = "order" // Order
	maxOrders = 1000    // that are packed at a time
)

// order makes an order of the cart.
func (s *shop) order(w http.ResponseWriter, r *http.Request) error {
	err := s.change(r, func(session *sessions.Session) error {
		last, ordered := session.Values[keyOrder].(Order)
		lines, total := cartOf(session)
		switch {
		case len(lines) == 0:
			session.AddFlash("There is nothing in your cart to order.")
		case ordered && !last.OnItsWay:
			session.AddFlash("Your last order is still being packed. Please wait until it is on its way.")
		default:
			order := Order{Total: total, Placed: time.Now()}
			for _, line := range lines {
				order.Packs += line.Quantity
				delete(session.Values, cartPrefix+line.Tea.ID)
			}
			session.Values[keyOrder] = order
			session.AddFlash("Thank you for your order.")
		}
		if err := session.Save(r, w); err != nil {
			return err
		}
		s.packer.pack(r.Context(), session)
		return nil
	})
	if err != nil {
		return err
	}
	redirect(w, r, "/")
	return nil
}

// packer packs orders. It remembers nothing that matters: an order that it has dropped, since
// the program ended, there were too many, the database was away or the session has a
// new ID, is taken up again when its visitor next comes by.
type packer struct {
	store *mongostore.Store
	log   *slog.Logger
	takes time.Duration // from the order on

	closing chan struct{} // closed when the shop closes
	jobs    sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	underWay map[string]bool // by the session's ID
}

func newPacker(store *mongostore.Store, logger *slog.Logger, takes time.Duration) *packer {
	return &packer{
		store: store, log: logger, takes: takes,
		closing: make(chan struct{}), underWay: make(map[string]bool),
	}
}

// pack sees to the order of a session that is stored, if it has one that is not on its
// way, and that is not being packed already. It does not wait.
func (p *packer) pack(ctx context.Context, session *sessions.Session) {
	order, ok := session.Values[keyOrder].(Order)
	if !ok || order.OnItsWay {
		return
	}
	id := session.ID // all that the job keeps of the session, which is the request's
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.underWay[id] || len(p.underWay) >= maxOrders {
		return
	}
	p.underWay[id] = true
	ctx = context.WithoutCancel(ctx) // the request ends before
	p.jobs.Go(func() {
		defer p.forget(id)
		timer := time.NewTimer(time.Until(order.Placed.Add(p.takes)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.closing:
			return
		}
		err := p.send(ctx, id, order.Placed)
		switch {
		case errors.Is(err, mongostore.ErrNotFound), errors.Is(err, mongostore.ErrGone):
			// The visitor has signed out. That brings no session back.
		case errors.Is(err, mongostore.ErrConflict):
			// Another process was faster.
		case err != nil:
			p.log.WarnContext(ctx, "order not sent", "error", err)
		}
	})
}

func (p *packer) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.underWay, id)
}

// send marks the order of a session as being on its way. What requests change at the
// same time, such as the cart, stays as they leave it.
func (p *packer) send(ctx context.Context, id string, placed time.Time) error {
	session, err := p.store.Fetch(ctx, sessionName, id)
	if err != nil {
		return err
	}
	order, ok := session.Values[keyOrder].(Order)
	if !ok || !order.Placed.Equal(placed) {
		return nil // there is another one by now
	}
	order.OnItsWay = true
	session.Values[keyOrder] = order
	return p.store.Persist(ctx, session)
}

// close ends the jobs that wait, and waits for those that are at the database.
func (p *packer) close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.closing)
	}
	p.mu.Unlock()
	ended := make(chan struct{})
	go func() { p.jobs.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
