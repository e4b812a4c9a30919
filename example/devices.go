package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// The page "Your devices": where a user is signed in, and how to end that.

// device is a session as its user sees it.
type device struct {
	Key      string // of the session; no secret, and worth nothing to other users
	Name     string
	Handheld bool
	Current  bool // it is the one that asks
	SignedIn time.Time
	Seen     time.Time
}

// devices shows where the user is signed in.
func (s *shop) devices(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	data := page{Title: "Your devices", User: userOf(session)}
	err = s.change(r, func(session *sessions.Session) error {
		data.Flashes = flashesOf(session)
		return session.Save(r, w)
	})
	if err != nil && !errors.Is(err, mongostore.ErrConflict) { // then the messages come again
		return err
	}
	if data.Devices, err = s.devicesOf(r.Context(), session); err != nil {
		return err
	}
	s.render(w, http.StatusOK, "devices.html", data)
	return nil
}

// signOutDevice ends one session of the user.
func (s *shop) signOutDevice(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	key := r.PostFormValue("key") // first, since a form may take its time to arrive
	devices, err := s.devicesOf(r.Context(), session)
	if err != nil {
		return err
	}
	// Revoke ends any session that it is given the key of. This key comes from outside,
	// and whether it is one of this user's, nobody but we can check.
	i := slices.IndexFunc(devices, func(d device) bool { return d.Key == key })
	if i < 0 {
		s.render(w, http.StatusNotFound, "message.html", page{
			Title: "You are not signed in there",
			Text:  "That device may have been signed out a moment ago. Nothing was changed.",
			User:  userOf(session),
			Back:  "/devices",
		})
		return nil
	}
	if devices[i].Current {
		return s.logout(w, r)
	}
	if err := s.store.Revoke(r.Context(), key); err != nil {
		return err
	}
	err = s.change(r, func(session *sessions.Session) error {
		session.AddFlash(devices[i].Name + " is signed out.")
		return session.Save(r, w)
	})
	if err != nil {
		return err
	}
	redirect(w, r, "/devices")
	return nil
}

// signOutOthers ends all sessions of the user but this one.
func (s *shop) signOutOthers(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	n, err := s.store.RevokeAll(r.Context(), userOf(session), session)
	if err != nil {
		return err
	}
	message := fmt.Sprintf("%d other devices are signed out.", n)
	switch n {
	case 0:
		message = "You were signed in nowhere else."
	case 1:
		message = "One other device is signed out."
	}
	err = s.change(r, func(session *sessions.Session) error {
		session.AddFlash(message)
		// Who asks for this may fear that a cookie was copied, and it may be this
		// device's: under a fresh ID the copy is worth nothing.
		return s.store.Renew(r, w, session)
	})
	if err != nil {
		return err
	}
	redirect(w, r, "/devices")
	return nil
}

// devicesOf returns where the session's user is signed in: here, and then the device seen
// last first. If here is none of them, a request that was under way while its
// device was signed out gets ErrGone, and decides nothing any more.
func (s *shop) devicesOf(ctx context.Context, session *sessions.Session) ([]device, error) {
	var others []device
	here := make([]device, 0, 1)
	for info, err := range s.store.Sessions(ctx, userOf(session)) {
		if err != nil {
			return nil, err
		}
		browser, system := info.Details["browser"], info.Details["system"]
		d := device{
			Key:      info.Key,
			Name:     deviceName(browser, system),
			Handheld: system == "Android" || system == "iPhone" || system == "iPad",
			Current:  info.Is(session),
			SignedIn: info.CreatedAt.UTC(),
			Seen:     info.SeenAt.UTC(),
		}
		if d.Current {
			here = append(here, d)
		} else {
			others = append(others, d)
		}
	}
	if len(here) == 0 {
		return nil, mongostore.ErrGone
	}
	return append(here, others...), nil
}

// describe tells what the store keeps of a visitor's device beside the session. It is
// for the user alone to recognise a device by: a browser may claim to be any other.
func describe(r *http.Request) map[string]string {
	browser, system := parseUserAgent(r.UserAgent())
	return map[string]string{"browser": browser, "system": system}
}

// Of each list the first whose mark is found counts, since most browsers claim to be
// older ones as well.
var (
	browsers = []struct{ mark, name string }{
		{"Edg", "Edge"}, // on phones EdgA and EdgiOS
		{"OPR/", "Opera"},
		{"SamsungBrowser/", "Samsung Internet"},
		{"Firefox/", "Firefox"},
		{"FxiOS/", "Firefox"},
		{"Chrome/", "Chrome"},
		{"CriOS/", "Chrome"},
		{"Safari/", "Safari"},
	}
	systems = []struct{ mark, name string }{
		{"iPhone", "iPhone"},
		{"iPad", "iPad"}, // an older one; the newer ones say that they are a Mac
		{"Android", "Android"},
		{"Windows", "Windows"},
		{"CrOS", "ChromeOS"},
		{"Macintosh", "macOS"},
		{"Linux", "Linux"},
	}
)

// parseUserAgent finds what people know their devices by. The results are words of the
// lists above, or "": nothing of the header itself is kept or shown.
func parseUserAgent(header string) (browser, system string) {
	for _, b := range browsers {
		if strings.Contains(header, b.mark) {
			browser = b.name
			break
		}
	}
	for _, s := range systems {
		if strings.Contains(header, s.mark) {
			system = s.name
			break
		}
	}
	return browser, system
}

func deviceName(browser, system string) string {
	if browser != "" && system != "" {
		return browser + " on " + system
	}
	return cmp.Or(browser, system, "Unknown device")
}

// ago says how long before now something was. It is no more exact than the store, which
// notes a visit once a minute.
func ago(now, t time.Time) string {
	switch d := now.Sub(t); {
	case d < 2*time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d minutes ago", d/time.Minute)
	case d < 2*time.Hour:
		return "an hour ago"
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours ago", d/time.Hour)
	default:
		return fmt.Sprintf("%d days ago", d/(24*time.Hour))
	}
}
