package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	lazy "github.com/laziness-coders/mongostore"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/mongostore/mongostore"
)

// The stores of the comparison, as an application uses them: with their defaults, and requests
// in which anything can happen between loading and saving.

// peer is a store of the comparison.
type peer struct {
	name     string
	database bool // it keeps its sessions in one
	open     func(x *trial, set setting) *subject
}

// setting is what a trial wants otherwise than by default.
type setting struct {
	wire      *wire // which may fail; nil for one that is waited for, as a busy machine is no outage
	meter     *Meter
	maxAge    int           // seconds, of a session that is not used
	absolute  time.Duration // of any session
	touch     time.Duration // this store's TouchInterval
	owner     string        // this store's OwnerKey
	hashed    bool          // scs's HashTokenInStore
	unlimited bool          // securecookie's limit is lifted
}

// subject is a store that a trial works on.
type subject struct {
	request func(v *visitor, handle func(visit)) answer

	codecs []securecookie.Codec // that sign the cookie, if it is signed

	coll *mongo.Collection // from outside, of those with a database
	dir  string            // of the one with files
	ping func(context.Context) error

	own     *mongostore.Store
	lazy    *lazy.MongoStore
	manager *scs.SessionManager
}

// visit is a session in a request.
type visit interface {
	known() bool // the store has found it
	get(key string) (value any, ok bool)
	set(key string, value any)
	live(seconds int) // its own MaxAge
	renew() error     // a new ID, as well as the store can
	end()
	skip() // no call of Save
}

// answer is what became of a request.
type answer struct {
	load, save error
	cookies    []*http.Cookie
}

// visitor is a browser's window. Several requests at once may be its.
type visitor struct {
	mu     sync.Mutex
	cookie string
}

func (v *visitor) clone() *visitor {
	v.mu.Lock()
	defer v.mu.Unlock()
	return &visitor{cookie: v.cookie}
}

func (v *visitor) request() *http.Request {
	b := Browser{cookie: v.clone().cookie}
	_, r := b.request()
	return r
}

func (v *visitor) receive(cookies []*http.Cookie) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range cookies {
		if c.Name != cookieName {
			continue
		}
		v.cookie = c.Value
		if c.MaxAge < 0 {
			v.cookie = ""
		}
	}
}

// trial is one store put to one test, in a goroutine of its own: most of the time it waits.
type trial struct {
	*testing.T
	what  string
	peer  *peer
	after []func()
}

func (x *trial) fatal(args ...any) {
	x.Helper()
	x.Errorf("%s: %s: %s", x.what, x.peer.name, strings.TrimSuffix(fmt.Sprintln(args...), "\n"))
	runtime.Goexit()
}

func (x *trial) must(err error) {
	x.Helper()
	if err != nil {
		x.fatal(err)
	}
}

func (x *trial) cleanup(f func()) { x.after = append(x.after, f) }

func (x *trial) finish() {
	for _, f := range slices.Backward(x.after) {
		f()
	}
}

// login is a visitor's first request.
func (x *trial) login(s *subject) *visitor {
	x.Helper()
	v := &visitor{}
	a := s.request(v, func(in visit) { in.set("user", "ada") })
	if x.must(errors.Join(a.load, a.save)); v.cookie == "" {
		x.fatal("no cookie after login")
	}
	if !x.loggedIn(s, v) {
		x.fatal("not logged in after login")
	}
	return v
}

// loggedIn reports whether the visitor's cookie opens the session of [trial.login].
func (x *trial) loggedIn(s *subject, v *visitor) bool {
	in := false
	s.request(v.clone(), func(session visit) {
		user, _ := session.get("user")
		in = session.known() && user == "ada"
		session.skip()
	})
	return in
}

// within reports whether the condition comes true in the time.
func within(d time.Duration, condition func() bool) bool {
	deadline := time.After(d)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// lost removes whatever the store holds, behind its back.
func (x *trial) lost(s *subject) {
	x.Helper()
	if s.coll != nil {
		_, err := s.coll.DeleteMany(x.Context(), bson.D{})
		x.must(err)
		return
	}
	for _, file := range x.files(s) {
		x.must(os.Remove(file))
	}
}

func (x *trial) files(s *subject) []string {
	x.Helper()
	entries, err := os.ReadDir(s.dir)
	x.must(err)
	var names []string
	for _, entry := range entries {
		names = append(names, s.dir+"/"+entry.Name())
	}
	return names
}

// documents are what the database holds.
func (x *trial) documents(s *subject) []bson.Raw {
	x.Helper()
	cursor, err := s.coll.Find(x.Context(), bson.D{})
	x.must(err)
	var docs []bson.Raw
	x.must(cursor.All(x.Context(), &docs))
	return docs
}

// stored is how many sessions lie in the database or the folder, expired or not.
func (x *trial) stored(s *subject) int {
	x.Helper()
	if s.coll != nil {
		return len(x.documents(s))
	}
	return len(x.files(s))
}

// wire is a network that can fail.
type wire struct {
	mu    sync.Mutex
	down  bool // connections break, and new ones are refused
	black bool // what is sent goes nowhere
	conns []net.Conn
}

var errCut = errors.New("cut by the test")

func (w *wire) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, errCut
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.conns = append(w.conns, conn)
	return wireConn{conn, w}, nil
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	for _, conn := range w.conns {
		_ = conn.Close()
	}
	w.conns = nil
}

func (w *wire) swallow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.black = true
}

func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down, w.black = false, false
}

type wireConn struct {
	net.Conn
	wire *wire
}

func (c wireConn) Write(p []byte) (int, error) {
	c.wire.mu.Lock()
	black := c.wire.black
	c.wire.mu.Unlock()
	if black {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// selection is how long a driver looks for a server before it gives up, in trials with an
// outage: by default, it is 30 seconds.
const selection = "serverSelectionTimeoutMS=3000"

// place is where the store connects to, and its collection, from outside.
func (x *trial) place(set setting) (*Env, *mongo.Collection) {
	x.Helper()
	base, _ := environment(x.T)
	env := *base
	env.Meter = set.meter
	if set.wire != nil {
		env.dialer = set.wire
		_, rest, _ := strings.Cut(env.URI, "://")
		switch {
		case strings.Contains(rest, "?"):
			env.URI += "&" + selection
		case strings.Contains(rest, "/"):
			env.URI += "?" + selection
		default:
			env.URI += "/?" + selection
		}
	}
	client, err := base.connect()
	x.must(err)
	coll := client.Database(base.Database).Collection(fmt.Sprintf("peer%d", places.Add(1)))
	x.cleanup(func() {
		ctx := context.WithoutCancel(x.Context())
		_ = coll.Drop(ctx)
		_ = client.Disconnect(ctx)
	})
	return &env, coll
}

var places atomic.Int64

// peers are the columns of the comparison.
var peers = [...]*peer{
	{name: "this store", database: true, open: openOwn},
	{name: "laziness-coders/mongostore", database: true, open: openLazy},
	{name: "scs", database: true, open: openSCS},
	{name: "CookieStore", open: openCookie},
	{name: "FilesystemStore", open: openFiles},
}

func openOwn(x *trial, set setting) *subject {
	env, coll := x.place(set)
	client, err := env.connect()
	x.must(err)
	cfg := mongostore.Config{
		Client:          client,
		Database:        coll.Database().Name(),
		Collection:      coll.Name(),
		AbsoluteTimeout: set.absolute,
		TouchInterval:   set.touch,
		OwnerKey:        set.owner,
		Cleanup:         mongostore.CleanupOff, // so that no expired session is deleted meanwhile
		Logger:          slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if set.wire == nil {
		cfg.Timeout = time.Minute
	}
	store, err := mongostore.Open(x.Context(), cfg, signingKey)
	x.must(err)
	x.cleanup(func() {
		ctx := context.WithoutCancel(x.Context())
		_ = store.Close(ctx)
		_ = client.Disconnect(ctx)
	})
	if set.maxAge != 0 {
		store.MaxAge(set.maxAge)
	}
	s := throughGorilla(store)
	s.own, s.codecs, s.coll, s.ping = store, store.Codecs, coll, func(ctx context.Context) error { return client.Ping(ctx, readpref.Primary()) }
	return s
}

func openLazy(x *trial, set setting) *subject {
	env, coll := x.place(set)
	client, err := env.connectV1(x.Context())
	x.must(err)
	x.cleanup(func() { _ = client.Disconnect(context.WithoutCancel(x.Context())) })
	maxAge := set.maxAge
	if maxAge == 0 {
		maxAge = int(lifetime / time.Second)
	}
	store := lazy.NewMongoStore(client.Database(coll.Database().Name()).Collection(coll.Name()), maxAge, false, signingKey)
	if set.unlimited {
		for _, codec := range store.Codecs {
			if sc, ok := codec.(*securecookie.SecureCookie); ok {
				sc.MaxLength(0)
			}
		}
	}
	s := throughGorilla(store)
	s.lazy, s.codecs, s.coll, s.ping = store, store.Codecs, coll, func(ctx context.Context) error { return client.Ping(ctx, nil) }
	return s
}

func openCookie(_ *trial, set setting) *subject {
	store := sessions.NewCookieStore(signingKey)
	if set.maxAge != 0 {
		store.MaxAge(set.maxAge)
	}
	s := throughGorilla(store)
	s.codecs = store.Codecs
	return s
}

func openFiles(x *trial, set setting) *subject {
	dir, err := os.MkdirTemp("", "mongostore-peers-")
	x.must(err)
	x.cleanup(func() { _ = os.RemoveAll(dir) })
	store := sessions.NewFilesystemStore(dir, signingKey)
	if set.maxAge != 0 {
		store.MaxAge(set.maxAge)
	}
	if set.unlimited {
		store.MaxLength(0)
	}
	s := throughGorilla(store)
	s.codecs, s.dir = store.Codecs, dir
	return s
}

// throughGorilla is any store of gorilla's interface. A session that comes with an error is
// used all the same, as in gorilla's own introduction.
func throughGorilla(store sessions.Store) *subject {
	return &subject{request: func(v *visitor, handle func(visit)) answer {
		w, r := httptest.NewRecorder(), v.request()
		session, err := store.Get(r, cookieName)
		a := answer{load: err}
		in := &gorillaVisit{session: session, r: r, w: w}
		handle(in)
		if !in.skipped {
			a.save = session.Save(r, w)
		}
		a.cookies = w.Result().Cookies()
		v.receive(a.cookies)
		return a
	}}
}

type gorillaVisit struct {
	session *sessions.Session
	r       *http.Request
	w       http.ResponseWriter
	skipped bool
}

func (in *gorillaVisit) known() bool { return !in.session.IsNew }

func (in *gorillaVisit) get(key string) (any, bool) {
	value, ok := in.session.Values[key]
	return value, ok
}

func (in *gorillaVisit) set(key string, value any) { in.session.Values[key] = value }
func (in *gorillaVisit) live(seconds int)          { in.session.Options.MaxAge = seconds }
func (in *gorillaVisit) end()                      { in.session.Options.MaxAge = -1 }
func (in *gorillaVisit) skip()                     { in.skipped = true }

func (in *gorillaVisit) renew() error {
	if store, ok := in.session.Store().(*mongostore.Store); ok {
		in.skip()
		return store.Renew(in.r, in.w, in.session)
	}
	in.session.ID = ""
	return nil
}

// unbounded are [blobs] without a deadline, as scs's own store for MongoDB has none.
type unbounded struct{ blobs }

func (s unbounded) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	var b blob
	err := s.coll.FindOne(ctx, bson.D{{Key: "_id", Value: token}}).Decode(&b)
	if errors.Is(err, mongo.ErrNoDocuments) || err == nil && !b.Expiry.After(time.Now()) {
		return nil, false, nil
	}
	return b.Data, err == nil, err
}

func (s unbounded) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	_, err := s.coll.ReplaceOne(ctx, bson.D{{Key: "_id", Value: token}}, blob{token, data, expiry}, options.Replace().SetUpsert(true))
	return err
}

func (s unbounded) DeleteCtx(ctx context.Context, token string) error {
	_, err := s.coll.DeleteOne(ctx, bson.D{{Key: "_id", Value: token}})
	return err
}

func openSCS(x *trial, set setting) *subject {
	env, coll := x.place(set)
	client, err := env.connect()
	x.must(err)
	x.cleanup(func() { _ = client.Disconnect(context.WithoutCancel(x.Context())) })
	manager := scs.New()
	manager.Store = unbounded{blobs{coll: client.Database(coll.Database().Name()).Collection(coll.Name())}}
	manager.IdleTimeout = time.Duration(set.maxAge) * time.Second
	manager.HashTokenInStore = set.hashed
	if set.absolute > 0 {
		manager.Lifetime = set.absolute
	}
	s := throughSCS(manager)
	s.coll, s.ping = coll, func(ctx context.Context) error { return client.Ping(ctx, readpref.Primary()) }
	return s
}

// throughSCS is scs with its middleware.
func throughSCS(manager *scs.SessionManager) *subject {
	manager.ErrorFunc = func(w http.ResponseWriter, _ *http.Request, err error) {
		if w, ok := w.(*failing); ok {
			w.err = err
		}
	}
	return &subject{manager: manager, request: func(v *visitor, handle func(visit)) answer {
		w := &failing{ResponseRecorder: httptest.NewRecorder()}
		var a answer
		loaded := false
		manager.LoadAndSave(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			loaded = true
			in := &scsVisit{ctx: r.Context(), manager: manager}
			handle(in)
			a.save = in.err
		})).ServeHTTP(w, v.request())
		if loaded {
			a.save = errors.Join(a.save, w.err)
		} else {
			a.load = w.err
		}
		a.cookies = w.Result().Cookies()
		v.receive(a.cookies)
		return a
	}}
}

// failing is a response that learns of the middleware's error.
type failing struct {
	*httptest.ResponseRecorder
	err error
}

type scsVisit struct {
	ctx     context.Context //nolint:containedctx // the request's
	manager *scs.SessionManager
	err     error
}

func (in *scsVisit) known() bool { return in.manager.Token(in.ctx) != "" }

func (in *scsVisit) get(key string) (any, bool) {
	return in.manager.Get(in.ctx, key), in.manager.Exists(in.ctx, key)
}

func (in *scsVisit) set(key string, value any) { in.manager.Put(in.ctx, key, value) }

func (in *scsVisit) live(seconds int) {
	in.manager.SetDeadline(in.ctx, time.Now().Add(time.Duration(seconds)*time.Second))
}

func (in *scsVisit) renew() error { return in.manager.RenewToken(in.ctx) }
func (in *scsVisit) end()         { in.err = in.manager.Destroy(in.ctx) }
func (in *scsVisit) skip()        {} // it saves what has changed, asked or not
