package mongostore

import (
	"fmt"
	"runtime"
	"sync"
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

	cookie string // the Set-Cookie line of the last save

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
	st.id, st.stored, st.record, st.readAt = id, true, rec, rec.seenAt
}

// end takes down that the session removed itself.
func (st *state) end() {
	st.removed = true
	st.err = fmt.Errorf("mongostore: save session: %w", ErrGone)
}

// states finds a session's state. It belongs to the session, not to the request,
// because applications save sessions through requests that middleware derived, and
// gorilla's registry replaces the store in a session. References are weak: a state
// goes when its session does.
type states struct {
	m sync.Map // of weak.Pointer[sessions.Session] to *state
}

// of returns the session's state; a session that was not made by this store gets
// an empty one.
func (t *states) of(session *sessions.Session) *state {
	ref := weak.Make(session)
	if st, ok := t.m.Load(ref); ok {
		return st.(*state)
	}
	st, loaded := t.m.LoadOrStore(ref, new(state))
	if !loaded {
		runtime.AddCleanup(session, func(ref weak.Pointer[sessions.Session]) { t.m.Delete(ref) }, ref)
	}
	return st.(*state)
}
