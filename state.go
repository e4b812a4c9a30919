package mongostore

import (
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

	id     string // the session's ID; of a session that failed to load, the cookie's
	stored bool   // the database acknowledged a document for id
	err    error  // why the session must not be saved; nil when it may

	record record // the document, as far as this session knows it
	readAt time.Time

	attempt string // the ID of an insert that may have been applied, though it failed
	cookie  string // the Set-Cookie line of the last save
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
