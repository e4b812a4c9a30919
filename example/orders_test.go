package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"
)

const (
	beingPacked = `<p id="order">Being packed.`
	onItsWay    = `<p id="order">On its way.`
)

// session returns the session of a browser.
func (s *site) session(t *testing.T, b *browser) *sessions.Session {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Cookie", b.cookie())
	session, err := s.store.New(r, sessionName)
	if err != nil || session.IsNew {
		t.Fatalf("there is no session (error %v)", err)
	}
	return session
}

func (p *packer) underWayNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.underWay)
}

func TestOrder(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, testURI)
	slow := openSite(t, db, config{packing: 24 * time.Hour})
	b := newBrowser(t, slow.url)
	b.post("/order").redirectsTo(t, "/login?note=first")
	b.login("Ada")
	b.post("/order").redirectsTo(t, "/")
	b.get("/").shows(t, 200, "Your cart is empty.", `!id="order"`)
	b.post("/cart/assam/quantity", "quantity", "2")
	b.post("/cart/sencha/add")
	b.post("/order").redirectsTo(t, "/")
	b.get("/").shows(t, 200, "Thank you for your order.", "3 packs, €19.60", beingPacked, "Your cart is empty.")

	b.post("/cart/rooibos/add")
	b.post("/order").redirectsTo(t, "/")
	b.get("/").shows(t, 200, "Your last order is still being packed.", "3 packs, €19.60", beingPacked, packs("rooibos", 1))
	if n := slow.packer.underWayNow(); n != 1 {
		t.Errorf("%d orders under way, want 1", n)
	}

	// The program starts again, and the visitor comes by; under a new ID besides.
	b.post("/devices/sign-out-others").redirectsTo(t, "/devices")
	if err := slow.packer.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.base = openSite(t, db, config{}).url
	until(t, "the order is on its way", func() bool { return strings.Contains(b.get("/").body, onItsWay) })
	b.get("/").shows(t, 200, helloAda, "3 packs, €19.60", packs("rooibos", 1))

	b.post("/order").redirectsTo(t, "/")
	until(t, "the next order is on its way", func() bool {
		page := b.get("/").body
		return strings.Contains(page, onItsWay) && strings.Contains(page, "1 pack, €4.50")
	})
}

// Who has signed out is not signed in again by an order that was under way.
func TestOrderOfVisitorWhoLeft(t *testing.T) {
	t.Parallel()
	site := openSite(t, newDatabase(t, testURI), config{packing: 24 * time.Hour})
	b := newBrowser(t, site.url)
	b.login("Ada")
	b.post("/cart/assam/add")
	b.post("/order").redirectsTo(t, "/")
	session := site.session(t, b)
	b.post("/logout").redirectsTo(t, "/?note=out")

	log := &lockedBuffer{}
	p := newPacker(site.shop.strict, slog.New(slog.NewTextHandler(log, nil)), 0)
	p.pack(t.Context(), session)
	p.jobs.Wait()
	if log.String() != "" {
		t.Errorf("the job does not end silently: %s", log)
	}
	site.wantSessions(t, 0)
}

func TestPackerKeepsOtherChanges(t *testing.T) {
	t.Parallel()
	site := openSite(t, newDatabase(t, testURI), config{packing: 24 * time.Hour})
	b := newBrowser(t, site.url)
	b.login("Ada")
	b.post("/cart/assam/add")
	b.post("/order")
	session := site.session(t, b)
	order, _ := session.Values[keyOrder].(Order)
	if err := site.packer.send(t.Context(), session.ID, order.Placed.Add(-time.Second)); err != nil {
		t.Error(err)
	}
	b.post("/cart/assam/add")
	b.get("/").shows(t, 200, beingPacked, packs("assam", 1)) // an earlier order changes nothing
	if err := site.packer.send(t.Context(), session.ID, order.Placed); err != nil {
		t.Error(err)
	}
	b.get("/").shows(t, 200, onItsWay, packs("assam", 1))
	if infos := site.sessions(t, "Ada"); len(infos) != 1 || infos[0].Details["browser"] != "" {
		t.Errorf("the sessions are %+v", infos)
	}
}

func TestPackerIsBounded(t *testing.T) {
	t.Parallel()
	p := newPacker(nil, slog.New(slog.DiscardHandler), 24*time.Hour)
	waiting := map[any]any{keyOrder: Order{Placed: time.Now()}}
	for i := range maxOrders + 1 {
		session := &sessions.Session{ID: fmt.Sprint(i), Values: waiting}
		p.pack(t.Context(), session)
		p.pack(t.Context(), session)
	}
	if n := p.underWayNow(); n != maxOrders {
		t.Errorf("%d orders under way, want %d", n, maxOrders)
	}
	for range 2 {
		if err := closing(context.Background(), p.close); err != nil {
			t.Error(err)
		}
	}
	p.pack(t.Context(), &sessions.Session{ID: "late", Values: waiting})
	if n := p.underWayNow(); n != 0 {
		t.Errorf("%d orders under way after the end", n)
	}
}
