package mongostore

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/gorilla/sessions"
)

// state is what the store remembers of a session that it loaded or saved: what the
// database holds, so that a save can send what differs.
type state struct {
	mu sync.Mutex // held during a save

	id      string   // the session's ID
	others  []string // further IDs in the request's cookies, for a logout
	stored  bool     // the database acknowledged a document for id
	removed bool     // by this session itself
	err     error    // why the session must not be saved; nil when it may

	record record // the document, as far as this session knows it
	readAt time.Time

	signed string // the ID as it came in a cookie, signed by the newest key; or empty
	cookie string // the Set-Cookie line of the last save, in that save's response
	left   bool   // that is one that expires

	origin *origin // where it was taken over from, until it is stored here
}

// adopt makes a new session the stored one.
func (st *state) adopt(session *sessions.Session, id string, rec record, values map[any]any) {
	st.id, st.err, st.stored, st.record, st.readAt = id, nil, true, rec, time.Now()
	session.ID, session.IsNew, session.Values = id, false, values
	if rec.maxAge != nil {
		session.Options.MaxAge = *rec.maxAge
	}
}

// settle takes down what the database has acknowledged.
func (st *state) settle(id string, rec record) {
	if id != st.id {
		st.signed = "" // which is for the earlier ID
	}
	st.id, st.stored, st.record, st.readAt = id, true, rec, rec.seenAt
}

// end takes down that the session removed itself.
func (st *state) end() {
	st.removed = true
	st.err = fmt.Errorf("mongostore: save session: %w", ErrGone)
}

// withdraw takes the cookie that an earlier save set out of the response again, when the
// session is gone: the visitor may have a new one by now, whose cookie must stay. A logout's
// remains.
func (st *state) withdraw(w http.ResponseWriter) {
	if !st.left {
		withdrawCookie(w, st.cookie)
	}
}

// states finds a session's state. It belongs to the session, not to the request,
// because applications save sessions through requests that middleware derived, and
// gorilla's registry replaces the store in a session. References are weak: a state
// goes when its session does.
type states struct {
	m     sync.Map    // of weak.Pointer[sessions.Session] to *state
	armed atomic.Bool // the states of dead sessions will be removed
}

// of returns the session's state; a session that was not made by this store gets
// an empty one.
func (t *states) of(session *sessions.Session) *state {
	ref := weak.Make(session)
	if st, ok := t.m.Load(ref); ok {
		return st.(*state)
	}
	st, _ := t.m.LoadOrStore(ref, new(state))
	t.arm()
	return st.(*state)
}

// add gives a session that was just made its state.
func (t *states) add(session *sessions.Session) *state {
	st := new(state)
	t.m.Store(weak.Make(session), st)
	t.arm()
	return st
}

// arm has the states of dead sessions removed after the next garbage collection, which is
// when something dies that nobody holds. That costs less than to wait for each session.
func (t *states) arm() {
	if !t.armed.Swap(true) {
		runtime.AddCleanup(&struct{ _ [16]byte }{}, (*states).sweep, t)
	}
}

// sweep removes the states of dead sessions, as long as there are any.
func (t *states) sweep() {
	t.armed.Store(false)
	left := false
	t.m.Range(func(ref, _ any) bool {
		if ref.(weak.Pointer[sessions.Session]).Value() == nil {
			t.m.Delete(ref)
		} else {
			left = true
		}
		return true
	})
	if left {
		t.arm()
	}
}

// expireCookie adds an expiring cookie to the response, in the place of that of an earlier save.
// Earlier ones of its kind stay: they are for another domain or path, or the visitor has a
// new session since, whose cookie must remain the last one.
func (st *state) expireCookie(w http.ResponseWriter, cookie *http.Cookie) {
	earlier := st.cookie
	if st.left {
		earlier = ""
		if slices.Contains(w.Header()["Set-Cookie"], cookie.String()) {
			return
		}
	}
	st.cookie, st.left = setCookie(w, cookie, earlier), true
}
