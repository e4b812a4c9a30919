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

// Orders, which are packed in the background: Fetch and Persist change a session without a
// request of its user.

// Order is what a user has ordered last.
type Order struct {
	Packs    int       `bson:"packs"`
	Total    int       `bson:"total"`  // cents
	Placed   time.Time `bson:"placed"` // see now
	OnItsWay bool      `bson:"onItsWay"`
}

const (
	keyOrder  = "order" // Order
	maxOrders = 1000    // that are packed at a time
)

// order turns the cart into an order. It depends on what is in the cart, so it needs change.
func (s *shop) order(w http.ResponseWriter, r *http.Request) error {
	session, err := s.change(w, r, func(session *sessions.Session) {
		last, ordered := mongostore.Value[Order](session, keyOrder)
		lines, total := cartOf(session)
		switch {
		case len(lines) == 0:
			session.AddFlash("Your cart is empty.")
		case ordered && !last.OnItsWay:
			session.AddFlash("Your last order is still being packed. Please wait until it is on its way.")
		default:
			order := Order{Total: total, Placed: now()}
			for _, line := range lines {
				order.Packs += line.Quantity
				delete(session.Values, cartPrefix+line.Tea.ID)
			}
			session.Values[keyOrder] = order
			session.AddFlash("Thank you for your order.")
		}
	})
	if err != nil {
		return err
	}
	s.packer.pack(r.Context(), session)
	redirect(w, r, "/")
	return nil
}

// packer packs orders. It can forget one: when the program ends, if there are too many, if the
// database is unavailable, or when the session is renewed. The next visit of the user starts
// it again.
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

// pack packs the order of a stored session, if there is one that is not on its way and not
// being packed. It does not wait.
func (p *packer) pack(ctx context.Context, session *sessions.Session) {
	order, ok := mongostore.Value[Order](session, keyOrder)
	if !ok || order.OnItsWay {
		return
	}
	id := session.ID // the job must not use the session, which is the request's
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.underWay[id] || len(p.underWay) >= maxOrders {
		return
	}
	p.underWay[id] = true
	ctx = context.WithoutCancel(ctx) // the request ends earlier
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
			// The user has signed out.
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

// send marks the order of a session as being on its way. It leaves what requests change
// meanwhile, such as the cart, and it does not extend the session.
func (p *packer) send(ctx context.Context, id string, placed time.Time) error {
	session, err := p.store.Fetch(ctx, sessionName, id)
	if err != nil {
		return err
	}
	order, ok := mongostore.Value[Order](session, keyOrder)
	if !ok || !order.Placed.Equal(placed) {
		return nil // it is another order
	}
	order.OnItsWay = true
	session.Values[keyOrder] = order
	return p.store.Persist(ctx, session)
}

// close ends the jobs that wait, and waits for those that use the database.
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
