package bench

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	lazy "github.com/laziness-coders/mongostore"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
)

// A Contender handles requests.
type Contender struct {
	Name string

	// SmallOnly says that its sessions have to fit into a cookie.
	SmallOnly bool

	handle func(b *Browser, op Op, c *Content) error
	close  func(context.Context) error
}

// Do handles one request of a browser. It fails if the session is not what it must be.
func (c *Contender) Do(b *Browser, op Op, content *Content) error {
	if err := c.handle(b, op, content); err != nil {
		return fmt.Errorf("%s: %s: %w", c.Name, op, err)
	}
	return nil
}

// Holds reports whether the contender can store a session of the size.
func (c *Contender) Holds(size Size) bool { return !c.SmallOnly || size == Small }

// Close lets go of connections and files.
func (c *Contender) Close(ctx context.Context) error {
	if c.close == nil {
		return nil
	}
	return c.close(ctx)
}

// A Browser sends requests with the cookie that it got.
type Browser struct {
	cookie string // its value
	key    string // the document's _id, which the floor has to be told
	count  int    // what it last set the counter to
	keys   int    // how many keys its session holds

	cookies int // responses that set the cookie

	// inspect is shown the value of each key that a request has loaded. For tests.
	inspect func(value func(key string) any)
}

const cookieName = "session"

var (
	signingKey = []byte("a key to sign with, of 32 bytes.")

	errNew  = errors.New("the session is not there")
	errKeys = errors.New("the session does not hold what was stored")
)

// request returns the request and response that each contender, the floor too, is called with.
func (b *Browser) request() (*httptest.ResponseRecorder, *http.Request) {
	r := httptest.NewRequest(http.MethodGet, "https://example.com/", nil)
	if b.cookie != "" {
		r.AddCookie(&http.Cookie{Name: cookieName, Value: b.cookie})
	}
	return httptest.NewRecorder(), r
}

// receive keeps the cookie of a response. A browser that has one already may receive none.
func (b *Browser) receive(w *httptest.ResponseRecorder) error {
	lines := w.Header()["Set-Cookie"]
	if len(lines) == 0 && b.cookie != "" {
		return nil
	}
	if len(lines) != 1 {
		return fmt.Errorf("%d cookies in the response", len(lines))
	}
	b.cookies++
	pair, _, _ := strings.Cut(lines[0], ";")
	_, b.cookie, _ = strings.Cut(pair, "=")
	return nil
}

// timeout bounds each call of the floor, as the store bounds its own.
const timeout = 5 * time.Second

// Names of the contenders.
const (
	FloorName  = "floor"
	OwnName    = "mongostore"
	LazyName   = "laziness"
	SCSName    = "scs"
	SCSIdle    = "scs-idle"
	CookieName = "cookie"
	FilesName  = "files"
)

// Open returns the contenders of the names.
func Open(ctx context.Context, env *Env, names ...string) (_ []*Contender, err error) {
	var all []*Contender
	defer func() {
		if err != nil {
			err = errors.Join(err, CloseAll(ctx, all))
		}
	}()
	gob.Register(time.Time{}) // for the stores that encode with gob
	if err := env.prepare(ctx); err != nil {
		return nil, err
	}
	for _, name := range names {
		makeIt, ok := makers[name]
		if !ok {
			return nil, fmt.Errorf("no contender %q", name)
		}
		c, err := makeIt(ctx, env)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		c.Name = name
		all = append(all, c)
	}
	return all, nil
}

// CloseAll closes contenders.
func CloseAll(ctx context.Context, all []*Contender) error {
	var errs []error
	for _, c := range all {
		errs = append(errs, c.Close(ctx))
	}
	return errors.Join(errs...)
}

// AllNames are the names of all contenders, the floor first.
var AllNames = []string{FloorName, OwnName, LazyName, SCSName, SCSIdle, CookieName, FilesName}

var makers = map[string]func(context.Context, *Env) (*Contender, error){
	FloorName:  newFloor,
	OwnName:    newOwn,
	LazyName:   newLazy,
	SCSName:    func(ctx context.Context, env *Env) (*Contender, error) { return newSCS(ctx, env, 0) },
	SCSIdle:    func(ctx context.Context, env *Env) (*Contender, error) { return newSCS(ctx, env, lifetime) },
	CookieName: newCookie,
	FilesName:  newFiles,
}

// gorilla is any store of gorilla's interface, used as its documentation says.
func gorilla(store sessions.Store) func(*Browser, Op, *Content) error {
	return func(b *Browser, op Op, c *Content) error {
		w, r := b.request()
		session, err := store.Get(r, cookieName)
		if err != nil {
			return err
		}
		if op == First {
			for key, v := range c.Values {
				session.Values[key] = v
			}
			session.Values[counter] = 0
			b.count, b.keys = 0, len(session.Values)
			if err := session.Save(r, w); err != nil {
				return err
			}
			return b.receive(w)
		}
		if session.IsNew {
			return errNew
		}
		if len(session.Values) != b.keys || session.Values[counter] != b.count {
			return errKeys
		}
		if b.inspect != nil {
			b.inspect(func(key string) any { return session.Values[key] })
		}
		switch op {
		case Load:
			return nil
		case Keep:
			if err := session.Save(r, w); err != nil {
				return err
			}
			return b.receive(w)
		case Change:
			session.Values[counter] = b.count + 1
			if err := session.Save(r, w); err != nil {
				return err
			}
			b.count++
			return b.receive(w)
		case Logout:
			session.Options.MaxAge = -1
			return session.Save(r, w)
		}
		return fmt.Errorf("no operation %q", op)
	}
}

func newOwn(ctx context.Context, env *Env) (*Contender, error) {
	client, err := env.connect()
	if err != nil {
		return nil, err
	}
	cfg := mongostore.Config{
		Client:     client,
		Database:   env.Database,
		Collection: collections[OwnName],
		Logger:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if !env.TTL {
		cfg.Cleanup = mongostore.CleanupOff // the others' documents would not be swept either
	}
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		return nil, errors.Join(err, client.Disconnect(ctx))
	}
	return &Contender{handle: gorilla(store), close: func(ctx context.Context) error {
		return errors.Join(store.Close(ctx), client.Disconnect(ctx))
	}}, nil
}

// newLazy is the store behind gin-contrib/sessions. It uses the driver's first
// version, and no deadline.
func newLazy(ctx context.Context, env *Env) (*Contender, error) {
	client, err := env.connectV1(ctx)
	if err != nil {
		return nil, err
	}
	coll := client.Database(env.Database).Collection(collections[LazyName])
	store := lazy.NewMongoStore(coll, int(lifetime/time.Second), env.TTL, signingKey)
	for _, codec := range store.Codecs {
		// Its session goes through the cookie's codec, which stops at 4096 bytes.
		if sc, ok := codec.(*securecookie.SecureCookie); ok {
			sc.MaxLength(0)
		}
	}
	return &Contender{handle: gorilla(store), close: client.Disconnect}, nil
}

func newCookie(context.Context, *Env) (*Contender, error) {
	inner := gorilla(sessions.NewCookieStore(signingKey))
	return &Contender{SmallOnly: true, handle: inner}, nil
}

func newFiles(context.Context, *Env) (*Contender, error) {
	dir, err := os.MkdirTemp("", "mongostore-bench-")
	if err != nil {
		return nil, err
	}
	store := sessions.NewFilesystemStore(dir, signingKey)
	store.MaxLength(0)
	return &Contender{handle: gorilla(store), close: func(context.Context) error {
		return os.RemoveAll(dir)
	}}, nil
}

// lifetime is how long sessions live in all stores: this one's default.
const lifetime = 30 * 24 * time.Hour

// blobs is the store that scs is given: one document per token, upserted whole.
type blobs struct {
	scs.Store // for the methods without a context, which are not called
	coll      *mongo.Collection
}

type blob struct {
	Token  string    `bson:"_id"`
	Data   []byte    `bson:"data"`
	Expiry time.Time `bson:"expiry"`
}

func (s blobs) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var b blob
	err := s.coll.FindOne(ctx, bson.D{{Key: "_id", Value: token}}).Decode(&b)
	if errors.Is(err, mongo.ErrNoDocuments) || err == nil && !b.Expiry.After(time.Now()) {
		return nil, false, nil
	}
	return b.Data, err == nil, err
}

func (s blobs) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := s.coll.ReplaceOne(ctx, bson.D{{Key: "_id", Value: token}}, blob{token, data, expiry},
		options.Replace().SetUpsert(true))
	return err
}

func (s blobs) DeleteCtx(ctx context.Context, token string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := s.coll.DeleteOne(ctx, bson.D{{Key: "_id", Value: token}})
	return err
}

// newSCS is scs with its own middleware and codec. Without an idle timeout, its default,
// it writes changed sessions only, whose end never moves; with one it writes at every request.
func newSCS(ctx context.Context, env *Env, idle time.Duration) (*Contender, error) {
	client, err := env.connect()
	if err != nil {
		return nil, err
	}
	name := SCSName
	if idle > 0 {
		name = SCSIdle
	}
	coll := client.Database(env.Database).Collection(collections[name])
	if env.TTL {
		if err := indexTTL(ctx, coll, "expiry"); err != nil {
			return nil, errors.Join(err, client.Disconnect(ctx))
		}
	}
	manager := scs.New()
	manager.Store = blobs{coll: coll}
	manager.Lifetime = lifetime
	manager.IdleTimeout = idle
	manager.Cookie.Name = cookieName
	return &Contender{handle: scsHandler(manager), close: client.Disconnect}, nil
}

func scsHandler(manager *scs.SessionManager) func(*Browser, Op, *Content) error {
	return func(b *Browser, op Op, c *Content) error {
		w, r := b.request()
		var err error
		manager.LoadAndSave(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			err = scsRequest(r.Context(), manager, b, op, c)
		})).ServeHTTP(w, r)
		if err != nil {
			return err
		}
		if w.Code != http.StatusOK {
			return fmt.Errorf("status %d", w.Code)
		}
		switch op {
		case Logout:
			return nil
		case Change:
			b.count++
		}
		return b.receive(w)
	}
}

func scsRequest(ctx context.Context, manager *scs.SessionManager, b *Browser, op Op, c *Content) error {
	if op == First {
		for key, v := range c.Values {
			manager.Put(ctx, key, v)
		}
		manager.Put(ctx, counter, 0)
		b.count, b.keys = 0, len(c.Values)+1
		return nil
	}
	if !manager.Exists(ctx, counter) {
		return errNew
	}
	if manager.Get(ctx, counter) != b.count {
		return errKeys
	}
	if b.inspect != nil {
		b.inspect(func(key string) any { return manager.Get(ctx, key) })
	}
	switch op {
	case Change:
		manager.Put(ctx, counter, b.count+1)
	case Logout:
		return manager.Destroy(ctx)
	}
	return nil
}

// newFloor is the driver alone, on documents as the store makes them.
func newFloor(ctx context.Context, env *Env) (*Contender, error) {
	client, err := env.connect()
	if err != nil {
		return nil, err
	}
	coll := client.Database(env.Database).Collection(collections[FloorName])
	if env.TTL {
		if err := indexTTL(ctx, coll, "expiresAt"); err != nil {
			return nil, errors.Join(err, client.Disconnect(ctx))
		}
	}
	return &Contender{handle: floor{coll}.handle, close: client.Disconnect}, nil
}

type floor struct{ coll *mongo.Collection }

func (f floor) handle(b *Browser, op Op, c *Content) error {
	_, r := b.request()
	if op == First {
		return f.insert(r.Context(), b, c)
	}
	byID := bson.D{{Key: "_id", Value: b.key}}
	doc, err := f.find(r.Context(), byID)
	if err != nil {
		return err
	}
	if b.inspect != nil {
		b.inspect(func(key string) any { return plain(doc.Lookup("values", key)) })
	}
	switch op {
	case Change:
		b.count++
		return f.update(r.Context(), byID, bson.D{{Key: "$set", Value: bson.D{{Key: "values." + counter, Value: b.count}}}})
	case Logout:
		return f.delete(r.Context(), byID)
	}
	return nil
}

func (f floor) insert(ctx context.Context, b *Browser, c *Content) error {
	doc, key := c.document()
	b.cookie, b.key = c.cookie, key
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := f.coll.InsertOne(ctx, doc)
	return err
}

func (f floor) find(ctx context.Context, byID bson.D) (bson.Raw, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f.coll.FindOne(ctx, byID).Raw()
}

// plain is a BSON value as the Go value that the store makes of it.
func plain(v bson.RawValue) any {
	switch v.Type {
	case bson.TypeInt32:
		return int(v.Int32())
	case bson.TypeDateTime:
		return v.Time().UTC()
	case bson.TypeBoolean:
		return v.Boolean()
	default:
		return v.StringValue()
	}
}

func (f floor) update(ctx context.Context, byID, update bson.D) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, err := f.coll.UpdateOne(ctx, byID, update)
	if err == nil && res.MatchedCount != 1 {
		return errNew
	}
	return err
}

func (f floor) delete(ctx context.Context, byID bson.D) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, err := f.coll.DeleteOne(ctx, byID)
	if err == nil && res.DeletedCount != 1 {
		return errNew
	}
	return err
}

func indexTTL(ctx context.Context, coll *mongo.Collection, field string) error {
	_, err := coll.Indexes().CreateOne(ctx, mongo.IndexModel{
		Keys:    bson.D{{Key: field, Value: 1}},
		Options: options.Index().SetExpireAfterSeconds(0),
	})
	return err
}
