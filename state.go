package mongostore

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore/internal/bsonval"
)

// state is what the store knows of a session that it loaded or saved: mainly the document in
// the database, so that a save can send only the changes.
type state struct {
	mu sync.Mutex // held during a save

	known  bool     // this store has loaded or saved the session
	id     string   // the session's ID
	others []string // further IDs in the request's cookies, for a logout
	stored bool     // the database has acknowledged a document for id

	err       error  // why the session must not be saved; nil when it may
	renewable bool   // despite err, Renew may store it: the session was just renewed
	renewedTo string // the hash that it was renewed to
	ended     bool   // by the application, with this session

	failed   error            // of the last Save or Renew; nil if that returned nil
	failedIn intent           // the call that failed
	failedAs sessions.Options // the session's options then
	unsaved  []field          // what it would have stored
	invalid  error            // why it could not store any

	record  record // the document, as far as this session knows it
	readAt  time.Time
	given   sessions.Options // the session's options, as the store has set them
	correct bool             // the document's times are wrong
	resend  bool             // the browser's cookie is missing, different, or signed by an older key

	cookie  string // the Set-Cookie line of the last save, in that save's response
	expired bool   // that line expires the cookie

	doubts doubts
	origin *origin // of a session that is to be migrated, until the old store has removed it
}

// intent is the call that a save serves.
type intent int

const (
	intentSave intent = iota
	intentRenew
	intentPersist
	intentTouch
)

// doubts are the changes of this session that were sent and not acknowledged. They count as
// changes until a write that includes them is acknowledged.
type doubts struct {
	keys  []doubtfulKey
	age   bool
	owner bool
}

type doubtfulKey struct {
	key      any
	name     string
	attempts []attempt
}

// attempt is a value that was sent, zero for a removal.
type attempt struct {
	sent bsonval.Value
	ours bsonval.Value // the session's value at that time: sent without the list elements of others
}

func (d *doubts) of(key any) *doubtfulKey {
	for i := range d.keys {
		if d.keys[i].key == key {
			return &d.keys[i]
		}
	}
	return nil
}

// sent reports whether any value that was sent satisfies a condition.
func (k *doubtfulKey) sent(condition func(bsonval.Value) bool) bool {
	return k != nil && slices.ContainsFunc(k.attempts, func(a attempt) bool { return condition(a.sent) })
}

// loaded sets session and state to the session that was found.
func (st *state) loaded(session *sessions.Session, id string, f *found) {
	if f.maxAge != nil {
		session.Options.MaxAge = *f.maxAge
	}
	st.id, st.stored, st.err = id, true, nil
	st.record, st.readAt, st.correct = f.record, f.readAt, f.correct
	st.given = *session.Options
	session.ID, session.IsNew, session.Values = id, false, f.values
}

// commit sets session and state to what the database has acknowledged.
func (st *state) commit(session *sessions.Session, r *result) {
	p := r.plan
	st.id, st.stored, st.record, st.doubts, st.readAt = r.id, true, p.next, p.left, p.now
	st.err, st.renewable = nil, false
	session.ID = r.id
	if len(r.merged) > 0 && session.Values == nil {
		session.Values = map[any]any{}
	}
	for _, m := range r.merged {
		if m.removed {
			delete(session.Values, m.key)
		} else {
			session.Values[m.key] = m.value
		}
	}
	if p.touch {
		st.correct = false
		st.given = p.options
		if session.Options != nil && session.Options.MaxAge != p.options.MaxAge {
			o := *session.Options
			o.MaxAge = p.options.MaxAge // another request has changed it
			session.Options = &o
		}
	}
}

// gone records that the session has ended, and returns the error for it.
func (st *state) gone() error {
	st.err = fmt.Errorf("mongostore: save session: %w", ErrGone)
	st.renewable = false
	return st.err
}

// setCookie adds the cookie to the response. It replaces the cookie of an earlier save.
func (st *state) setCookie(w http.ResponseWriter, cookie *http.Cookie) {
	st.cookie, st.expired = setCookie(w, cookie, st.cookie), false
}

// expireCookie adds an expiring cookie to the response. It replaces the cookie of an earlier
// save. Earlier expiring ones stay: they are for another domain or path, or the visitor has
// a newer session, whose cookie must remain the last one.
func (st *state) expireCookie(w http.ResponseWriter, cookie *http.Cookie) {
	earlier := st.cookie
	if st.expired {
		earlier = ""
		if slices.Contains(w.Header()["Set-Cookie"], cookie.String()) {
			return
		}
	}
	st.cookie, st.expired = setCookie(w, cookie, earlier), true
}

// withdrawCookie removes the cookie of an earlier save from the response when the session
// has ended: the visitor may have a new one by now. An expiring cookie stays.
func (st *state) withdrawCookie(w http.ResponseWriter) {
	if !st.expired {
		withdrawCookie(w, st.cookie)
	}
}

// states maps sessions to their states. A state belongs to the session, not to the request,
// because applications save sessions through requests that middleware derived, and
// gorilla's registry replaces the store in a session. References are weak, so a state is
// dropped after its session.
type states struct {
	mu sync.Mutex
	m  map[weak.Pointer[sessions.Session]]*state
}

// of returns the session's state. It is empty for a session that this store has not created.
func (t *states) of(session *sessions.Session) *state {
	ref := weak.Make(session)
	t.mu.Lock()
	defer t.mu.Unlock()
	st, ok := t.m[ref]
	if !ok {
		st = new(state)
		t.put(session, ref, st)
	}
	return st
}

// add sets the state of a new session.
func (t *states) add(session *sessions.Session, st *state) {
	ref := weak.Make(session)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(session, ref, st)
}

func (t *states) put(session *sessions.Session, ref weak.Pointer[sessions.Session], st *state) {
	if t.m == nil {
		t.m = map[weak.Pointer[sessions.Session]]*state{}
	}
	t.m[ref] = st
	runtime.AddCleanup(session, stateOf.drop, stateOf{t, ref})
}

type stateOf struct {
	states  *states
	session weak.Pointer[sessions.Session]
}

// drop removes the state of a session that is no longer used.
func (of stateOf) drop() {
	of.states.mu.Lock()
	defer of.states.mu.Unlock()
	delete(of.states.m, of.session)
}

// optionsOf returns the session's options. If they are nil, it returns those that the store
// has set.
func (s *Store) optionsOf(session *sessions.Session, st *state) sessions.Options {
	switch {
	case session.Options != nil:
		return *session.Options
	case st.stored:
		return st.given
	default:
		return *s.options()
	}
}

// origin is a session of the old store that is to be migrated.
type origin struct {
	session *sessions.Session // of the old store; nil if that failed
	request *http.Request
	name    string
	id      string // derived from the cookie
	until   time.Duration
	record  record // the content in the old store
}

// meta returns the metadata of the session's document in this store.
func (o *origin) meta(now time.Time) meta {
	m := o.record.meta
	m.hash, m.name = hashID(o.id), bsonval.String(o.name)
	if m.createdAt.IsZero() {
		m.createdAt = now
	}
	m.migratedUntil = now.Add(o.until)
	return m
}

// touchDue reports whether a save of a stored session moves its expiry.
func (s *Store) touchDue(st *state, o *sessions.Options, in intent, now time.Time) bool {
	due := st.correct || st.doubts.age
	switch in {
	case intentPersist:
		return false
	case intentTouch:
		return due || s.lifetimes.touchDue(st.record.seenAt, now, o.MaxAge) || o.MaxAge != st.given.MaxAge
	default:
		return due || s.lifetimes.touchDue(st.record.cookieSent(), now, o.MaxAge) || st.resend || *o != st.given
	}
}
