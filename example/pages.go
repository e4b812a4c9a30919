package main

import (
	"bytes"
	"html/template"
	"net/http"
	"time"

	"github.com/gorilla/sessions"
)

// The pages and their templates.

// page is what the templates show.
type page struct {
	Title   string
	User    string // "" if nobody is signed in
	Live    bool   // the page notices when the session ends
	Flashes []string
	Note    string

	// home.html
	Teas    []tea
	Cart    []cartLine
	Total   int    // cents
	Order   *Order // nil if there is none
	Session *panel

	// devices.html
	Devices []device // this one first

	// login.html
	Name     string
	Remember bool
	Problem  string

	// message.html
	Text   string
	Retry  string // address
	Back   string // address, if it is not the shop's
	LogOut bool
}

// panel is what the home page shows of the session.
type panel struct {
	Cookie     string
	Secure     bool
	Remembered bool
	Sealed     bool
	Keys       int
	Address    string
	User       string
}

func (s *shop) panelOf(session *sessions.Session) *panel {
	return &panel{
		Cookie:     session.Name(),
		Secure:     session.Options.Secure,
		Remembered: session.Options.MaxAge > 0,
		Sealed:     len(s.db.sealKeys) > 0,
		Keys:       len(session.Values),
		Address:    s.db.address,
		User:       userOf(session),
	}
}

// The pages of fail.
var (
	unavailable = page{
		Title: "Your session is not available",
		Text:  "The database that keeps the sessions does not respond. You are not signed out, and nothing in your cart is lost. Please try again in a moment.",
		Retry: "/",
	}
	busy = page{
		Title: "Too many changes at the same time",
		Text:  "Other windows of yours have changed your cart, so this change was not made. Nothing else is lost. Please try it again.",
		Retry: "/",
	}
	wrong = page{
		Title:  "Something went wrong",
		Text:   "The error is in our log. If it happens again, try to sign out and in again.",
		Retry:  "/",
		LogOut: true,
	}
)

func (s *shop) message(w http.ResponseWriter, status int, data page) {
	s.render(w, status, "message.html", data)
}

func (s *shop) notFound(w http.ResponseWriter, _ *http.Request) {
	s.message(w, http.StatusNotFound, page{
		Title: "There is no such page",
		Text:  "The address may be mistyped, or we do not have this tea.",
	})
}

func (s *shop) methodNotAllowed(w http.ResponseWriter, _ *http.Request) {
	s.message(w, http.StatusMethodNotAllowed, page{
		Title: "This is not a page",
		Text:  "Please use the buttons in the shop.",
	})
}

func (s *shop) crossOrigin(w http.ResponseWriter, r *http.Request) {
	s.log.WarnContext(r.Context(), "form of another site refused", "path", r.URL.Path, "origin", r.Header.Get("Origin"))
	s.message(w, http.StatusForbidden, page{
		Title: "That form came from another site",
		Text:  "It was ignored, to protect you. Please use the buttons in the shop.",
	})
}

// redirect makes the browser fetch the next page, so that a reload repeats nothing.
func redirect(w http.ResponseWriter, r *http.Request, target string) {
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// notes are messages for those who have no session. An address names one of them; it never
// contains the text.
var notes = map[string]string{
	"out":        "You are signed out.",
	"ended":      "You were signed out, in another window, on another device, or because your session expired. Please sign in again.",
	"unreadable": "Your session could not be read, so you were signed out. Please sign in again.",
	"first":      "Please sign in first.",
}

func noteOf(r *http.Request) string { return notes[r.URL.Query().Get("note")] }

func parseTemplates() (*template.Template, error) {
	return template.New("").
		Funcs(template.FuncMap{"ago": func(t time.Time) string { return ago(time.Now(), t) }, "euro": euro}).
		ParseFS(files, "templates/*.html")
}

// render writes a page, completely or not at all.
func (s *shop) render(w http.ResponseWriter, status int, name string, data page) {
	var body bytes.Buffer
	if err := s.templates.ExecuteTemplate(&body, name, data); err != nil {
		s.log.Error("page not rendered", "template", name, "error", err)
		http.Error(w, "Something went wrong.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w) // fails if the user has left
}
