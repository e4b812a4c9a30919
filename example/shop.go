package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gorilla/mux"
	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

const (
	maxName = 40      // characters of a user's name
	maxBody = 1 << 16 // bytes of a form
)

//go:embed templates static
var files embed.FS

// shop is the application.
type shop struct {
	store     *mongostore.Store
	strict    *mongostore.Store // the same sessions: see openStores
	db        *database
	packer    *packer
	live      *live
	log       *slog.Logger
	templates *template.Template
}

func openShop(ctx context.Context, cfg config, db *database, logger *slog.Logger, key []byte) (*shop, error) {
	templates, err := parseTemplates()
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	s := &shop{db: db, log: logger, templates: templates}
	if s.store, s.strict, err = openStores(ctx, cfg, db, logger, key, s.fail); err != nil {
		return nil, err
	}
	s.packer = newPacker(s.strict, logger, cfg.packing)
	s.live = newLive(ctx, s.store.Watch, logger)
	return s, nil
}

// close ends what runs in the background, and then the stores, which it uses.
func (s *shop) close(ctx context.Context) error {
	s.live.close()
	return errors.Join(s.packer.close(ctx), s.strict.Close(ctx), s.store.Close(ctx))
}

// handler returns the handler of the whole site.
func (s *shop) handler() http.Handler {
	router := mux.NewRouter()
	router.NotFoundHandler = http.HandlerFunc(s.notFound)
	router.MethodNotAllowedHandler = http.HandlerFunc(s.methodNotAllowed)

	// These routes load and save the session themselves, or need none.
	router.Handle("/logout", s.handle(s.logout)).Methods(http.MethodPost)
	router.Handle("/cart/{tea}/add", s.handle(s.addToCart)).Methods(http.MethodPost)
	router.Handle("/order", s.handle(s.order)).Methods(http.MethodPost)
	router.Handle("/events", s.handle(s.events)).Methods(http.MethodGet)
	router.PathPrefix("/static/").Handler(staticFiles()).Methods(http.MethodGet, http.MethodHead)

	// On these the middleware loads the session, saves it, and calls fail for errors.
	pages := router.NewRoute().Subrouter()
	pages.MethodNotAllowedHandler = router.MethodNotAllowedHandler
	pages.Use(s.store.Middleware(sessionName))
	pages.Handle("/", s.handle(s.home)).Methods(http.MethodGet, http.MethodHead)
	pages.Handle("/login", s.handle(s.loginForm)).Methods(http.MethodGet, http.MethodHead)
	pages.Handle("/login", s.handle(s.login)).Methods(http.MethodPost)

	users := pages.NewRoute().Subrouter()
	users.MethodNotAllowedHandler = router.MethodNotAllowedHandler
	users.Use(s.requireLogin)
	users.Handle("/cart/{tea}/quantity", s.handle(s.setQuantity)).Methods(http.MethodPost)
	users.Handle("/cart/{tea}/remove", s.handle(s.removeFromCart)).Methods(http.MethodPost)
	users.Handle("/devices", s.handle(s.devices)).Methods(http.MethodGet, http.MethodHead)
	users.Handle("/devices/sign-out", s.handle(s.signOutDevice)).Methods(http.MethodPost)
	users.Handle("/devices/sign-out-others", s.handle(s.signOutOthers)).Methods(http.MethodPost)

	// Browsers say where a form comes from, and those of other sites are refused. This needs
	// no tokens in the forms.
	forgery := http.NewCrossOriginProtection()
	forgery.SetDenyHandler(http.HandlerFunc(s.crossOrigin))
	return secureHeaders(http.MaxBytesHandler(forgery.Handler(router), maxBody))
}

// secureHeaders keeps other sites from framing the pages, injected markup from doing anything,
// and caches from storing what is in a session.
func secureHeaders(next http.Handler) http.Handler {
	const policy = "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; script-src 'self'; " +
		"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Referrer-Policy", "same-origin")
		header.Set("X-Content-Type-Options", "nosniff")
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

// handle returns the handler of a function that can fail.
func (s *shop) handle(f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := f(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// home shows the teas, and to users their session and their cart. It adds nothing to
// the session. It removes the messages that it shows, and the middleware saves that.
func (s *shop) home(w http.ResponseWriter, r *http.Request) error {
	session, _ := s.store.Get(r, sessionName)
	if hasEnded(r, session) {
		return mongostore.ErrGone
	}
	// Those who are not signed in have no session: every bot would add a document.
	data := page{Title: "Loose-leaf tea", Note: noteOf(r), Teas: teas, User: userOf(session)}
	if data.User != "" {
		data.Flashes = flashesOf(session)
		data.Cart, data.Total = cartOf(session)
		data.Session = s.panelOf(session)
		data.Live = s.live.works()
		if order, ok := mongostore.Value[Order](session, keyOrder); ok {
			data.Order = &order
		}
		s.packer.pack(r.Context(), session) // if that was interrupted
	}
	s.render(w, http.StatusOK, "home.html", data)
	return nil
}

// flashesOf removes the messages for the user from the session, and returns them.
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
	session, _ := s.store.Get(r, sessionName)
	if userOf(session) != "" {
		redirect(w, r, "/")
		return nil
	}
	data := page{Title: "Sign in", Note: noteOf(r)}
	if hasEnded(r, session) {
		if data.Note == "" {
			data.Note = notes["ended"]
		}
		// The cookie can go. Only here, and not with the redirect to this page: a late response
		// of that kind could remove the cookie of a new login in another window. And only the
		// cookie: a logout would also end the session that its own was renewed to, and this
		// cookie can be a copy.
		options := *session.Options
		options.MaxAge = -1
		http.SetCookie(w, sessions.NewCookie(sessionName, "", &options))
	}
	s.render(w, http.StatusOK, "login.html", data)
	return nil
}

func nameOf(r *http.Request) string { return strings.TrimSpace(r.PostFormValue("name")) }

func nameProblem(name string) string {
	switch {
	case name == "":
		return "Please enter a name. Any name will do."
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "Please use letters, digits and spaces."
	case utf8.RuneCountInString(name) > maxName:
		return fmt.Sprintf("Please use a name of at most %d characters.", maxName)
	default:
		return ""
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
	{"assam", "Assam", "Malty and strong. Good with milk.", 590},
	{"darjeeling", "Darjeeling", "First flush: light and floral.", 890},
	{"oolong", "Oolong", "Half-oxidised, with a note of orchid.", 1050},
	{"sencha", "Sencha", "Steamed green tea, fresh and grassy.", 780},
	{"rooibos", "Rooibos", "Red bush from South Africa, without caffeine.", 450},
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

func euro(cents int) string {
	return fmt.Sprintf("€%d.%02d", cents/100, cents%100)
}
