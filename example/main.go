// Command example is a small tea shop: a gorilla/mux application that keeps its
// sessions in MongoDB. It is made to be read and copied from.
//
//	go run .                                                # with a database inside the program
//	MONGODB_URI=mongodb://localhost:27017/teahouse go run . # with your MongoDB
//
// Visitors, carts and flash messages all live in the session; there is no other
// storage. Stop the program with Ctrl-C, start it again: everybody is still
// signed in. Sign in with another browser too, and see both under "Your devices".
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"embed"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gorilla/mux"
	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/mongotest/embedded"
)

// The session. Its name is also that of the cookie.
const (
	sessionName = "teahouse"

	keyUser    = "user"   // string: who is signed in, the owner of the session
	keyVisits  = "visits" // int: pages seen since the login
	cartPrefix = "cart:"  // and a tea's ID: Line

	rememberMe     = 30 * 24 * 60 * 60 // seconds
	browserSession = 0                 // the cookie ends with the browser

	// However often they come, visitors prove from time to time who they are, and
	// a cookie that was copied unnoticed does not work for ever.
	longestSession = 90 * 24 * time.Hour
)

// Line is a line of the cart. As a type of this program's own it has to be made
// known to encoding/gob, as for every store of gorilla's.
//
// Each line has a key of its own in the session: the store merges by key what requests
// change at the same time.
type Line struct {
	Quantity int
	Added    time.Time
}

const (
	maxQuantity = 99
	maxName     = 40      // characters of a visitor's name
	maxBody     = 1 << 16 // bytes of a form

	maxAttempts = 12 // at a change that other requests interfere with

	databaseTimeout = 3 * time.Second  // a visitor waits no longer for a session
	shutdownTimeout = 10 * time.Second // for requests under way to end
)

//go:embed templates static
var files embed.FS

func main() {
	var cfg config
	flag.StringVar(&cfg.addr, "addr", "localhost:8080", "`address` to listen on")
	flag.StringVar(&cfg.dir, "data", "data", "`folder` of the keys and the embedded database; for one program at a time")
	flag.BoolVar(&cfg.migrate, "migrate", false, "take over the sessions that visitors still have in their cookies, from before there was a database")
	flag.BoolVar(&cfg.seal, "seal", false, "encrypt the values of the sessions in the database; once begun, it goes on without the flag")
	flag.DurationVar(&cfg.packing, "packing", 10*time.Second, "how long an order is packed until it is on its way")
	flag.BoolVar(&cfg.secure, "secure", false, "mark the cookie Secure; to be set when browsers come over https")
	flag.Parse()
	cfg.uri = os.Getenv("MONGODB_URI")

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends the program at once
	err := run(ctx, cfg, os.Stdout)
	if interrupted := ctx.Err() != nil && errors.Is(err, context.Canceled); err != nil && !interrupted {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}

type config struct {
	addr    string
	dir     string
	uri     string
	migrate bool
	packing time.Duration
	seal    bool
	secure  bool
}

// run serves the shop until ctx is done.
func run(ctx context.Context, cfg config, out io.Writer) (err error) {
	// First of all, since a port that is taken is the likeliest thing to go wrong.
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cfg.addr)
	if err != nil {
		return fmt.Errorf("%w (another address can be chosen with -addr)", err)
	}
	defer func() { _ = listener.Close() }() // in case that nothing is served

	cookieKey, err := secretKey(cfg.dir, "cookie.key")
	if err != nil {
		return fmt.Errorf("cookie key: %w", err)
	}
	sealKeys, err := sealKeys(cfg)
	if err != nil {
		return fmt.Errorf("seal key: %w", err)
	}
	db, err := openDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closing(ctx, db.close)) }()
	db.sealKeys = sealKeys

	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	store, err := openStore(ctx, cfg, db, logger, cookieKey)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closing(ctx, store.Close)) }()

	packer := newPacker(store, logger, cfg.packing)
	defer func() { err = errors.Join(err, closing(ctx, packer.close)) }()

	handler, err := newShop(store, db, packer, logger)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "The tea house is open: http://%s\n", browserAddress(cfg.addr, listener.Addr()))
	sealed := ""
	if len(sealKeys) > 0 {
		sealed = ", sealed"
	}
	fmt.Fprintf(out, "Sessions are kept in %s%s\n", db.description, sealed)
	fmt.Fprintln(out, "Ctrl-C closes it.")

	// Without time limits a handful of slow clients can keep every connection busy.
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second, // more than the database may take
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    1 << 16,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	fmt.Fprintln(out, "Closing. The sessions stay.")
	return closing(ctx, server.Shutdown)
}

// closing calls a function that shuts something down, after ctx has ended.
func closing(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	return f(ctx)
}

// browserAddress is what to type into the browser: the host as the user gave it,
// the port as the system did.
func browserAddress(flag string, listening net.Addr) string {
	_, port, _ := net.SplitHostPort(listening.String())
	host, _, _ := net.SplitHostPort(flag)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// secretKey returns the key of a file, such as the one that signs the cookies. It is made
// at the first start and kept, because a new key would sign everybody out. In
// production it comes from where your other secrets are kept;
// securecookie.GenerateRandomKey makes one.
func secretKey(dir, name string) (key []byte, err error) {
	const size = 32
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()

	text, err := root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, size)
		_, _ = rand.Read(key) // never fails
		return key, root.WriteFile(name, []byte(hex.EncodeToString(key)+"\n"), 0o600)
	}
	if err != nil {
		return nil, err
	}
	key, err = hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != size {
		return nil, fmt.Errorf("%s is damaged; without it a new key is made, and everybody signed out", filepath.Join(dir, name))
	}
	return key, nil
}

// sealKeys returns the keys that encrypt the values of the sessions, or none: to begin
// with, they are there to be looked at. Sealing that has begun goes on, because
// without its key what was sealed could not be read.
func sealKeys(cfg config) ([][]byte, error) {
	const name = "seal.key"
	_, err := os.Stat(filepath.Join(cfg.dir, name))
	if errors.Is(err, fs.ErrNotExist) && !cfg.seal {
		return nil, nil
	}
	key, err := secretKey(cfg.dir, name)
	if err != nil {
		return nil, err
	}
	return [][]byte{key}, nil // to change the key, put a new one in front
}

// database is where the sessions are.
type database struct {
	uri         string
	name        string
	address     string // the connection string without its secrets
	description string
	sealKeys    [][]byte // encrypt the values in it; none if they are readable
	close       func(context.Context) error
}

// openDatabase takes the MongoDB of the environment or, to try things out,
// starts one inside this program.
func openDatabase(ctx context.Context, cfg config) (*database, error) {
	const defaultName = "teahouse"
	if cfg.uri != "" {
		address, name := publicAddress(cfg.uri)
		db := &database{uri: cfg.uri, name: cmp.Or(name, defaultName), close: func(context.Context) error { return nil }}
		db.address = address + "/" + db.name
		db.description = db.address
		return db, nil
	}
	dir, err := filepath.Abs(filepath.Join(cfg.dir, "db"))
	if err != nil {
		return nil, fmt.Errorf("embedded database: %w", err)
	}
	server, err := embedded.Start(ctx, embedded.Config{Dir: dir})
	if err != nil {
		return nil, fmt.Errorf("embedded database: %w", err)
	}
	db := &database{uri: server.URI(), name: defaultName, close: server.Close}
	db.address = strings.TrimSuffix(db.uri, "/") + "/" + db.name
	db.description = fmt.Sprintf("%s (embedded FerretDB %s, files in %s)", db.address, server.Version(), dir)
	return db, nil
}

// publicAddress takes from a connection string what may be shown: where the servers
// are and, apart, the database's name. User, password and options stay out.
func publicAddress(uri string) (address, database string) {
	scheme, rest, _ := strings.Cut(uri, "://")
	if _, servers, ok := strings.Cut(rest, "@"); ok {
		rest = servers
	}
	servers, rest, _ := strings.Cut(rest, "/")
	database, _, _ = strings.Cut(rest, "?")
	return scheme + "://" + servers, database
}

// openStore is all that differs from an application on sessions.NewCookieStore.
func openStore(ctx context.Context, cfg config, db *database, logger *slog.Logger, key []byte) (*mongostore.Store, error) {
	storeConfig := mongostore.Config{
		URI:      db.uri,
		Database: db.name,
		Options: &sessions.Options{
			Path:     "/",
			MaxAge:   browserSession, // unless a login says "remember me"
			HttpOnly: true,
			// False only because the example is visited as http://localhost.
			// Wherever there is TLS, -secure has to be set. That is not found out
			// from X-Forwarded-Proto, since any client can send it.
			Secure: cfg.secure,
			// With CrossOriginProtection below, against forged requests.
			SameSite: http.SameSiteLaxMode,
		},
		AbsoluteTimeout: longestSession,
		// Visitors who have nothing to keep get neither cookie nor document.
		SkipEmpty: true,
		// Two windows that add the same tea at once: see change.
		OnConflict: mongostore.Reject,
		// For the page "Your devices".
		OwnerKey: keyUser,
		Describe: describe,
		SealKeys: db.sealKeys,
		Timeout:  databaseTimeout,
		Logger:   logger,
	}
	if cfg.uri == "" {
		storeConfig.Cleanup = mongostore.Sweep // FerretDB 1 has no TTL index
	}
	if cfg.migrate {
		// The shop used to keep the whole session in the cookie, under the same name and
		// signed with the same key. Who comes with such a cookie stays signed in: its
		// session is stored at the first Save, and the cookie replaced. But a copy
		// of it is taken over too, even after its owner has signed out. So this is to be
		// taken out as soon as most have come by, at the latest after the 30 days
		// that those cookies last.
		storeConfig.MigrateFrom = sessions.NewCookieStore(key)
	}
	return mongostore.Open(ctx, storeConfig, key)
}

// shop is the application.
type shop struct {
	store     *mongostore.Store
	db        *database
	packer    *packer
	log       *slog.Logger
	templates *template.Template
}

// newShop returns the handler of the whole site.
func newShop(store *mongostore.Store, db *database, packer *packer, logger *slog.Logger) (http.Handler, error) {
	gob.Register(Line{})
	gob.Register(Order{})

	templates, err := parseTemplates()
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	s := &shop{store: store, db: db, packer: packer, log: logger, templates: templates}

	router := mux.NewRouter()
	router.Handle("/", s.handle(s.home)).Methods(http.MethodGet, http.MethodHead)
	router.Handle("/login", s.handle(s.loginForm)).Methods(http.MethodGet, http.MethodHead)
	router.Handle("/login", s.handle(s.login)).Methods(http.MethodPost)
	router.Handle("/logout", s.handle(s.logout)).Methods(http.MethodPost)

	cart := router.PathPrefix("/cart/{tea}").Subrouter()
	cart.Use(s.requireLogin)
	cart.Handle("/add", s.handle(s.addToCart)).Methods(http.MethodPost)
	cart.Handle("/quantity", s.handle(s.setQuantity)).Methods(http.MethodPost)
	cart.Handle("/remove", s.handle(s.removeFromCart)).Methods(http.MethodPost)

	router.Handle("/order", s.requireLogin(s.handle(s.order))).Methods(http.MethodPost)

	devices := router.PathPrefix("/devices").Subrouter()
	devices.Use(s.requireLogin)
	devices.Handle("", s.handle(s.devices)).Methods(http.MethodGet, http.MethodHead)
	devices.Handle("/sign-out", s.handle(s.signOutDevice)).Methods(http.MethodPost)
	devices.Handle("/sign-out-others", s.handle(s.signOutOthers)).Methods(http.MethodPost)

	router.PathPrefix("/static/").Handler(staticFiles()).Methods(http.MethodGet, http.MethodHead)
	router.NotFoundHandler = http.HandlerFunc(s.notFound)
	router.MethodNotAllowedHandler = http.HandlerFunc(s.methodNotAllowed)

	// A browser says from where a form comes: other sites' are refused. That
	// takes no tokens in the forms.
	forgery := http.NewCrossOriginProtection()
	forgery.SetDenyHandler(http.HandlerFunc(s.crossOrigin))
	return secureHeaders(http.MaxBytesHandler(forgery.Handler(router), maxBody)), nil
}

func parseTemplates() (*template.Template, error) {
	return template.New("").
		Funcs(template.FuncMap{"ago": func(t time.Time) string { return ago(time.Now(), t) }, "euro": euro}).
		ParseFS(files, "templates/*.html")
}

// secureHeaders keeps other sites from framing the pages, and injected markup from
// doing anything.
func secureHeaders(next http.Handler) http.Handler {
	const policy = "default-src 'none'; style-src 'self'; img-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("X-Content-Type-Options", "nosniff")
		// The pages show what is in the session: no cache is to keep them.
		header.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func staticFiles() http.Handler {
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=300")
		server.ServeHTTP(w, r)
	})
}

// handle makes a handler of a function that can fail. What an error means to the
// visitor is said in one place, fail.
func (s *shop) handle(f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := f(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// fail answers a request that an error has ended.
func (s *shop) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, mongostore.ErrGone) {
		// While this request was under way the visitor signed out, in another window or
		// from another device. What it wanted to change must not bring the session back.
		redirect(w, r, "/login?note=ended")
		return
	}
	if r.Context().Err() != nil {
		return // the visitor has left
	}
	if errors.Is(err, mongostore.ErrConflict) {
		w.Header().Set("Retry-After", "1")
		s.render(w, http.StatusServiceUnavailable, "message.html", page{
			Title: "That was a lot at once",
			Text:  "You are busy in other windows too, and they were faster. This change was not made, nothing else is lost. Please try it again.",
			Retry: "/",
		})
		return
	}
	s.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	if errors.Is(err, mongostore.ErrUnavailable) {
		// This is no logout: cookie and session are as they were. To go on as if
		// the visitor were a new one would lose both.
		w.Header().Set("Retry-After", "5")
		s.render(w, http.StatusServiceUnavailable, "message.html", page{
			Title: "We cannot reach our memory",
			Text:  "The database that remembers you does not answer just now. You are not signed out and nothing in your cart is lost. Please try again in a moment.",
			Retry: "/",
		})
		return
	}
	// Among others ErrCorrupt: a session of a type that is no longer registered, say.
	// Signing out works even then.
	s.render(w, http.StatusInternalServerError, "message.html", page{
		Title:  "Something went wrong",
		Text:   "That was our mistake, and we have noted it down. If it happens again, signing out and in again may help.",
		Retry:  "/",
		LogOut: true,
	})
}

// session returns the visitor's session. The error is one for fail.
func (s *shop) session(r *http.Request) (*sessions.Session, error) {
	session, err := s.store.Get(r, sessionName)
	return session, s.ignoreCookieError(r, err)
}

func (s *shop) ignoreCookieError(r *http.Request, err error) error {
	var cookieError securecookie.Error
	if errors.As(err, &cookieError) {
		// The cookie is not of our making, or was signed with a key that we no
		// longer use. The session is new: the visitor can sign in.
		s.log.InfoContext(r.Context(), "cookie ignored", "error", err)
		return nil
	}
	return err
}

// userOf returns the name of who is signed in, or "".
func userOf(session *sessions.Session) string {
	user, _ := session.Values[keyUser].(string)
	return user
}

// ended reports whether the visitor's session is gone: the cookie was for one, but it has
// expired, or was signed out from another device.
func ended(r *http.Request, session *sessions.Session) bool {
	_, err := r.Cookie(sessionName)
	return session.IsNew && err == nil
}

// requireLogin sends visitors who are not signed in to the login page.
func (s *shop) requireLogin(next http.Handler) http.Handler {
	return s.handle(func(w http.ResponseWriter, r *http.Request) error {
		session, err := s.session(r)
		if err != nil {
			return err
		}
		if userOf(session) != "" {
			next.ServeHTTP(w, r)
			return nil
		}
		if ended(r, session) {
			redirect(w, r, "/login?note=ended")
		} else {
			redirect(w, r, "/login?note=first")
		}
		return nil
	})
}

// change calls f, which changes the visitor's session and saves it. If another request
// has changed the same values meanwhile, nothing of that is written: f is called again,
// with the session as it is by then. Each time some other request has
// succeeded, so as many attempts suffice as there are requests at once.
func (s *shop) change(r *http.Request, f func(*sessions.Session) error) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		if err = f(session); !errors.Is(err, mongostore.ErrConflict) || attempt == maxAttempts {
			return err
		}
		// Not Get, which goes on giving this request the session that it has.
		if session, err = s.store.New(r, sessionName); err != nil {
			return err
		}
		if session.IsNew {
			return mongostore.ErrGone // signed out meanwhile
		}
	}
}

// home shows the teas and, to those who are signed in, the cart and the session.
func (s *shop) home(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	if ended(r, session) {
		redirect(w, r, "/login?note=ended") // rather than leave them to wonder
		return nil
	}
	data := page{Title: "Loose-leaf tea", Note: noteOf(r), Teas: teas}
	// Those who only look around are given no session: it would cost a document
	// for every robot that comes by. So visits are counted from the login on.
	if data.User = userOf(session); data.User != "" {
		err := s.change(r, func(session *sessions.Session) error {
			visits, _ := session.Values[keyVisits].(int)
			session.Values[keyVisits] = visits + 1
			data.Flashes = flashesOf(session)
			data.Cart, data.Total = cartOf(session)
			data.Session = s.panelOf(session)
			data.Order = nil
			if order, ok := session.Values[keyOrder].(Order); ok {
				data.Order = &order
			}
			// Before the page is written, since Save sets a header.
			if err := session.Save(r, w); err != nil {
				return err
			}
			s.packer.pack(r.Context(), session) // if that was interrupted
			return nil
		})
		// A visit that is not counted is no reason to refuse the page.
		if err != nil && !errors.Is(err, mongostore.ErrConflict) {
			return err
		}
	}
	s.render(w, http.StatusOK, "home.html", data)
	return nil
}

// flashesOf takes the messages for the visitor out of the session.
func flashesOf(session *sessions.Session) []string {
	var texts []string
	for _, flash := range session.Flashes() {
		if text, ok := flash.(string); ok {
			texts = append(texts, text)
		}
	}
	return texts
}

func (s *shop) loginForm(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	if userOf(session) != "" {
		redirect(w, r, "/")
		return nil
	}
	data := page{Title: "Sign in", Note: noteOf(r)}
	if ended(r, session) {
		data.Note = notes["ended"]
		// The explanation is given, so the cookie can go. It is not taken at the redirect that
		// led here: a request that was sent just before a login in another tab may
		// be answered after it, and would take the new cookie.
		session.Options.MaxAge = -1
		if err := session.Save(r, w); err != nil {
			return err
		}
	}
	s.render(w, http.StatusOK, "login.html", data)
	return nil
}

// login takes any name for granted. Yours asks for a proof.
func (s *shop) login(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	name, remember := strings.TrimSpace(r.PostFormValue("name")), r.PostFormValue("remember") != ""
	if problem := nameProblem(name); problem != "" {
		s.render(w, http.StatusUnprocessableEntity, "login.html", page{
			Title: "Sign in", Name: name, Remember: remember, Problem: problem,
		})
		return nil
	}
	if userOf(session) != "" {
		// What is in that session, and since when it exists, is not this login's.
		if err := s.store.Remove(r.Context(), session); err != nil {
			return err
		}
		session, err = s.store.New(r, sessionName)
		if err = s.ignoreCookieError(r, err); err != nil {
			return err
		}
	}
	session.Values[keyUser] = name
	session.AddFlash("Welcome, " + name + ".")
	session.Options.MaxAge = browserSession
	if remember {
		session.Options.MaxAge = rememberMe // kept by the session on later requests
	}
	// With a login a session gets a fresh ID: if somebody else knew the old one (they may
	// have planted it), it is worth nothing now. Here visitors have no session
	// before, but where they do, this line makes the difference.
	if err := s.store.Renew(r, w, session); err != nil {
		return err
	}
	redirect(w, r, "/")
	return nil
}

func nameProblem(name string) string {
	switch {
	case name == "":
		return "Please tell us a name; any will do."
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "Please use letters, digits and spaces."
	case utf8.RuneCountInString(name) > maxName:
		return fmt.Sprintf("Please use a name of at most %d characters.", maxName)
	default:
		return ""
	}
}

// logout deletes the session. It must work whatever state the session is in, also
// while the database is down: the store then deletes as soon as it can.
func (s *shop) logout(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		s.log.WarnContext(r.Context(), "signing out of a session that cannot be read", "error", err)
	}
	session.Options.MaxAge = -1
	if err := session.Save(r, w); err != nil {
		return err
	}
	redirect(w, r, "/?note=out")
	return nil
}

func (s *shop) addToCart(w http.ResponseWriter, r *http.Request) error {
	return s.changeCart(w, r, func(tea tea, line *Line) string {
		if line.Quantity == maxQuantity {
			return fmt.Sprintf("There are %d × %s in your cart already.", maxQuantity, tea.Name)
		}
		line.Quantity++
		return tea.Name + " is in your cart."
	})
}

func (s *shop) setQuantity(w http.ResponseWriter, r *http.Request) error {
	quantity, err := strconv.Atoi(strings.TrimSpace(r.PostFormValue("quantity")))
	return s.changeCart(w, r, func(tea tea, line *Line) string {
		if err != nil || quantity < 0 || quantity > maxQuantity {
			return fmt.Sprintf("Please choose a quantity from 0 to %d.", maxQuantity)
		}
		line.Quantity = quantity
		return fmt.Sprintf("There are %d × %s in your cart now.", quantity, tea.Name)
	})
}

func (s *shop) removeFromCart(w http.ResponseWriter, r *http.Request) error {
	return s.changeCart(w, r, func(tea tea, line *Line) string {
		line.Quantity = 0
		return tea.Name + " is no longer in your cart."
	})
}

// changeCart changes one line of the cart, and leaves a message for the page that
// comes next.
func (s *shop) changeCart(w http.ResponseWriter, r *http.Request, changeLine func(tea, *Line) string) error {
	tea, ok := findTea(mux.Vars(r)["tea"])
	if !ok {
		s.notFound(w, r)
		return nil
	}
	err := s.change(r, func(session *sessions.Session) error {
		key := cartPrefix + tea.ID
		line, ok := session.Values[key].(Line)
		if !ok {
			line.Added = time.Now()
		}
		session.AddFlash(changeLine(tea, &line))
		if line.Quantity > 0 {
			session.Values[key] = line
		} else {
			delete(session.Values, key)
		}
		return session.Save(r, w)
	})
	if err != nil {
		return err
	}
	redirect(w, r, "/")
	return nil
}

func (s *shop) notFound(w http.ResponseWriter, _ *http.Request) {
	s.render(w, http.StatusNotFound, "message.html", page{
		Title: "There is no such page",
		Text:  "The address may be mistyped, or we do not have this tea.",
	})
}

func (s *shop) methodNotAllowed(w http.ResponseWriter, _ *http.Request) {
	s.render(w, http.StatusMethodNotAllowed, "message.html", page{
		Title: "This address takes forms only",
		Text:  "Please use the buttons in the shop.",
	})
}

func (s *shop) crossOrigin(w http.ResponseWriter, r *http.Request) {
	s.log.WarnContext(r.Context(), "form from another site refused", "path", r.URL.Path, "origin", r.Header.Get("Origin"))
	s.render(w, http.StatusForbidden, "message.html", page{
		Title: "That form came from another site",
		Text:  "To protect you, nothing was done. Please use the buttons in the shop.",
	})
}

// redirect has the browser get the next page, so that reloading it repeats nothing.
func redirect(w http.ResponseWriter, r *http.Request, target string) {
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// notes are for visitors who have no session to keep a flash message in. The address
// names one of them, and never brings a text of its own.
var notes = map[string]string{
	"out":   "You are signed out.",
	"ended": "You were signed out: from another device, or because you were away for long. Please sign in again.",
	"first": "Please sign in first.",
}

func noteOf(r *http.Request) string { return notes[r.URL.Query().Get("note")] }

// page is what the templates show.
type page struct {
	Title   string
	User    string // "" if nobody is signed in
	Flashes []string
	Note    string

	// home.html
	Teas    []tea
	Cart    []cartLine
	Total   int    // cents
	Order   *Order // nil if there is none
	Session *panel

	// devices.html
	Devices []device // the one at hand first

	// login.html
	Name     string
	Remember bool
	Problem  string

	// message.html
	Text   string
	Retry  string // address
	Back   string // address, if not the shop's
	LogOut bool
}

// render writes a page, whole or not at all.
func (s *shop) render(w http.ResponseWriter, status int, name string, data page) {
	var body bytes.Buffer
	if err := s.templates.ExecuteTemplate(&body, name, data); err != nil {
		s.log.Error("page not rendered", "template", name, "error", err)
		http.Error(w, "Something went wrong.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w) // fails if the visitor has left
}

// panel is what the page tells about the session.
type panel struct {
	Cookie     string
	Secure     bool
	Remembered bool
	Sealed     bool
	Visits     int
	Keys       int
	Address    string
	User       string
}

func (s *shop) panelOf(session *sessions.Session) *panel {
	visits, _ := session.Values[keyVisits].(int)
	return &panel{
		Cookie:     session.Name(),
		Secure:     session.Options.Secure,
		Remembered: session.Options.MaxAge > 0,
		Sealed:     len(s.db.sealKeys) > 0,
		Visits:     visits,
		Keys:       len(session.Values),
		Address:    s.db.address,
		User:       userOf(session),
	}
}

// tea is what the shop sells, by 100 grams.
type tea struct {
	ID    string
	Name  string
	About string
	Price int // cents
}

var teas = []tea{
	{"assam", "Assam", "Malty and strong. Takes milk, and mornings.", 590},
	{"darjeeling", "Darjeeling", "First flush: light, floral, a little muscatel.", 890},
	{"oolong", "Oolong", "Half way to black, with a note of orchid.", 1050},
	{"sencha", "Sencha", "Steamed green leaves, grassy and sweet.", 780},
	{"rooibos", "Rooibos", "Red bush from the Cape. Lets you sleep.", 450},
	{"hibiscus", "Hibiscus", "Deep red and tart. Good on ice.", 420},
}

func findTea(id string) (tea, bool) {
	for _, tea := range teas {
		if tea.ID == id {
			return tea, true
		}
	}
	return tea{}, false
}

// cartLine is a line of the cart as the page shows it.
type cartLine struct {
	Tea      tea
	Quantity int
	Price    int // cents
}

// cartOf returns the cart's lines, in the order of the shop's list.
func cartOf(session *sessions.Session) (lines []cartLine, total int) {
	for _, tea := range teas {
		if line, ok := session.Values[cartPrefix+tea.ID].(Line); ok {
			price := line.Quantity * tea.Price
			lines = append(lines, cartLine{Tea: tea, Quantity: line.Quantity, Price: price})
			total += price
		}
	}
	return lines, total
}

func euro(cents int) string {
	return fmt.Sprintf("€%d.%02d", cents/100, cents%100)
}
