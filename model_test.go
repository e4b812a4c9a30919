package mongostore_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/mongostore/mongostore"
)

// The store against a model of it: random histories of several browsers and several
// processes on one collection. Sessions are held between their load and their saves,
// so that requests overlap in every order; a failure shrinks to a short history.

// stored is what the model knows of a document.
type stored struct {
	key    string
	values map[any]any
	gone   bool
}

// request is a session in the hands of a handler.
type request struct {
	store     *mongostore.Store
	browser   *modelBrowser
	session   *sessions.Session
	doc       *stored     // nil until it is saved
	seen      map[any]any // the values as this session knows them to be stored
	dead      bool        // has had ErrGone
	loggedOut bool
}

type modelBrowser struct {
	*browser
	doc *stored // what its cookie stands for
}

type model struct {
	f        *fixture
	stores   []*mongostore.Store
	browsers []*modelBrowser
	requests []*request
	docs     []*stored
}

// newDoc notes a document that was made for a session.
func (m *model) newDoc(session *sessions.Session) *stored {
	doc := &stored{key: hashOf(session.ID)}
	m.docs = append(m.docs, doc)
	return doc
}

func TestModel(t *testing.T) {
	t.Parallel()
	f := setup(t)
	rapid.Check(t, func(rt *rapid.T) {
		if _, err := f.coll.DeleteMany(t.Context(), bson.D{}); err != nil {
			rt.Fatal(err)
		}
		m := &model{f: f}
		for range 2 {
			m.stores = append(m.stores, f.open())
		}
		for range 2 {
			// Each has a session already, so that histories get to the point.
			b := &modelBrowser{browser: f.browser()}
			b.do(func(s *sessions.Session) { s.Values["a"] = 0 })
			b.doc = m.newDoc(b.load())
			b.doc.values = map[any]any{"a": 0}
			m.browsers = append(m.browsers, b)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"load":   m.load,
			"change": m.change,
			"save":   func(rt *rapid.T) { m.save(rt, false) },
			"renew":  func(rt *rapid.T) { m.save(rt, true) },
			"logout": m.logout,
			"revoke": m.revoke,
			"reopen": func(rt *rapid.T) { m.stores[rapid.IntRange(0, 1).Draw(rt, "process")] = f.open() },
			"":       m.check,
		})
	})
}

func (m *model) load(rt *rapid.T) {
	q := &request{
		store:   m.stores[rapid.IntRange(0, len(m.stores)-1).Draw(rt, "process")],
		browser: m.browsers[rapid.IntRange(0, len(m.browsers)-1).Draw(rt, "browser")],
	}
	var err error
	if q.session, err = q.store.Get(q.browser.request(), name); err != nil {
		rt.Fatal(err)
	}
	doc := q.browser.doc
	if alive := doc != nil && !doc.gone; alive == q.session.IsNew {
		rt.Fatalf("the session is new: %t; in the model it is alive: %t", q.session.IsNew, alive)
	} else if alive {
		if !maps.Equal(q.session.Values, doc.values) {
			rt.Fatalf("loaded %v, want %v", q.session.Values, doc.values)
		}
		q.doc = doc
	}
	q.seen = maps.Clone(q.session.Values)
	m.requests = append(m.requests, q)
	if len(m.requests) > 4 {
		m.requests = m.requests[1:]
	}
}

// draw takes one of the requests that are under way.
func (m *model) draw(rt *rapid.T) *request {
	if len(m.requests) == 0 {
		rt.Skip("no request")
	}
	return m.requests[rapid.IntRange(0, len(m.requests)-1).Draw(rt, "request")]
}

func (m *model) change(rt *rapid.T) {
	q := m.draw(rt)
	key := rapid.SampledFrom([]any{"a", "$c.d", 7}).Draw(rt, "key")
	if v := rapid.IntRange(-1, 3).Draw(rt, "value"); v >= 0 {
		q.session.Values[key] = v
	} else {
		delete(q.session.Values, key)
	}
}

func (m *model) save(rt *rapid.T, renew bool) {
	q := m.draw(rt)
	ours := maps.Clone(q.session.Values)
	w := httptest.NewRecorder()
	var err error
	if renew {
		err = q.store.Renew(q.browser.request(), w, q.session)
	} else {
		err = q.store.Save(q.browser.request(), w, q.session)
	}
	q.browser.receive(w)
	if q.loggedOut { // with a negative MaxAge, still
		if err != nil {
			rt.Fatal(err)
		}
		q.browser.doc = nil
		return
	}
	unchanged := maps.Equal(ours, q.seen)
	switch gone := q.dead || q.doc != nil && q.doc.gone; {
	case errors.Is(err, mongostore.ErrGone) && gone:
		q.dead = true
		if w.Header()["Set-Cookie"] != nil {
			rt.Fatal("a cookie with ErrGone")
		}
		return
	case err != nil:
		rt.Fatalf("error: %v; gone: %t", err, gone)
	case gone && (!unchanged || renew || q.dead):
		rt.Fatal("a save of what is gone has succeeded")
	case gone: // nothing was sent
		q.browser.doc = q.doc
		return
	}

	// What this session changed, on top of what there is.
	merged := map[any]any{}
	if q.doc != nil {
		maps.Copy(merged, q.doc.values)
	}
	for key := range q.seen {
		if _, kept := ours[key]; !kept {
			delete(merged, key)
		}
	}
	for key, v := range ours {
		if was, known := q.seen[key]; !known || was != v {
			merged[key] = v
		}
	}
	q.seen = ours
	if renew && q.doc != nil {
		q.doc.gone = true
		q.doc = nil
		q.seen = maps.Clone(merged) // what others changed comes along
	}
	if !maps.Equal(q.session.Values, q.seen) {
		rt.Fatalf("afterwards the session holds %v, want %v", q.session.Values, q.seen)
	}
	if q.doc == nil {
		q.doc = m.newDoc(q.session)
	}
	q.doc.values = merged
	q.browser.doc = q.doc
}

func (m *model) logout(rt *rapid.T) {
	q := m.draw(rt)
	q.session.Options.MaxAge = -1
	w := httptest.NewRecorder()
	if err := q.store.Save(q.browser.request(), w, q.session); err != nil {
		rt.Fatal(err)
	}
	q.browser.receive(w)
	q.browser.doc, q.loggedOut = nil, true
	if q.doc != nil {
		q.doc.gone = true
	}
}

func (m *model) revoke(rt *rapid.T) {
	doc := m.docs[rapid.IntRange(0, len(m.docs)-1).Draw(rt, "session")]
	if err := m.stores[0].Revoke(m.f.t.Context(), doc.key); err != nil {
		rt.Fatal(err)
	}
	doc.gone = true
}

// check compares the collection with the model.
func (m *model) check(rt *rapid.T) {
	alive := map[string]*stored{}
	for _, doc := range m.docs {
		if !doc.gone {
			alive[doc.key] = doc
		}
	}
	docs := m.f.documents()
	if len(docs) != len(alive) {
		rt.Fatalf("%d documents, want %d", len(docs), len(alive))
	}
	for _, raw := range docs {
		doc := alive[raw.Lookup("_id").StringValue()]
		if doc == nil {
			rt.Fatalf("a document that should not be there: %v", raw)
		}
		want := map[string]string{}
		for key, v := range doc.values {
			want[map[any]string{"a": "a", "$c.d": "%24c%2Ed", 7: "%int:7"}[key]] = fmt.Sprint(v)
		}
		got := map[string]string{}
		elements, err := raw.Lookup("values").Document().Elements()
		if err != nil {
			rt.Fatal(err)
		}
		for _, e := range elements {
			got[e.Key()] = fmt.Sprint(e.Value().AsInt64())
		}
		if !maps.Equal(got, want) {
			rt.Fatalf("the document holds %v, want %v", got, want)
		}
	}
}
