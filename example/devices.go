package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/gorilla/sessions"
	"github.com/mileusna/useragent"

	"github.com/mongostore/mongostore"
)

// The page "Your devices": where a user is signed in, and how to end that.

// device is a session as its user sees it.
type device struct {
	Key      string // of the session; no secret, and useless to other users
	Name     string
	Handheld bool
	Current  bool // this one
	SignedIn time.Time
	Seen     time.Time
}

func (s *shop) devices(w http.ResponseWriter, r *http.Request) error {
	session, _ := s.store.Get(r, sessionName)
	flashes := flashesOf(session)
	// Now, and not by the middleware, so that the list has it: a session of MigrateFrom is not
	// stored before, and one from before there was an OwnerKey has no owner.
	if err := session.Save(r, w); err != nil {
		return err
	}
	devices, err := s.devicesOf(r.Context(), session)
	if err != nil {
		return err
	}
	s.render(w, http.StatusOK, "devices.html", page{
		Title:   "Your devices",
		User:    userOf(session),
		Live:    s.live.works(),
		Flashes: flashes,
		Devices: devices,
	})
	return nil
}

// signOutDevice ends one session of the user.
func (s *shop) signOutDevice(w http.ResponseWriter, r *http.Request) error {
	session, _ := s.store.Get(r, sessionName)
	key := r.PostFormValue("key") // before the list, since a form can arrive slowly
	devices, err := s.devicesOf(r.Context(), session)
	if err != nil {
		return err
	}
	// Revoke ends any session. The key comes from outside, so check whose session it is.
	i := slices.IndexFunc(devices, func(d device) bool { return d.Key == key })
	if i < 0 {
		s.message(w, http.StatusNotFound, page{
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
	session.AddFlash(devices[i].Name + " is signed out.")
	redirect(w, r, "/devices")
	return nil
}

// signOutOthers ends all sessions of the user except this one.
func (s *shop) signOutOthers(w http.ResponseWriter, r *http.Request) error {
	session, _ := s.store.Get(r, sessionName)
	n, err := s.store.RevokeAll(r.Context(), userOf(session), session)
	if err != nil {
		return err
	}
	switch n {
	case 0:
		session.AddFlash("You were not signed in anywhere else.")
	case 1:
		session.AddFlash("One other device is signed out.")
	default:
		session.AddFlash(fmt.Sprintf("%d other devices are signed out.", n))
	}
	// This device's cookie may have been copied too. A new ID makes the copy useless.
	if err := s.store.Renew(r, w, session); err != nil {
		return err
	}
	redirect(w, r, "/devices")
	return nil
}

// devicesOf returns where the session's user is signed in: this device first, then the one seen
// last. It returns ErrGone if this device is not among them: it was signed out meanwhile.
func (s *shop) devicesOf(ctx context.Context, session *sessions.Session) ([]device, error) {
	var here, others []device
	for info, err := range s.store.Sessions(ctx, userOf(session)) {
		if err != nil {
			return nil, err
		}
		d := device{
			Key:      info.Key,
			Name:     deviceName(info.Details),
			Handheld: info.Details["handheld"] != "",
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

// describe returns what the store keeps of a user's device, beside the values. It is for the
// user to recognise the device: a browser can claim to be any other.
func describe(r *http.Request) map[string]string {
	agent := useragent.Parse(r.UserAgent())
	details := map[string]string{"browser": "", "system": agent.OS}
	if browsers[agent.Name] { // else it can be any text of the header
		details["browser"] = agent.Name
	}
	if agent.OS == useragent.IOS {
		details["system"] = agent.Device // iPhone or iPad
	}
	if agent.Mobile || agent.Tablet {
		details["handheld"] = "yes"
	}
	return details
}

// browsers are those that are shown by name.
var browsers = map[string]bool{
	useragent.Chrome: true, useragent.HeadlessChrome: true, useragent.Edge: true, useragent.Firefox: true,
	useragent.InternetExplorer: true, useragent.Opera: true, useragent.OperaMini: true, useragent.OperaTouch: true,
	useragent.Safari: true, useragent.SamsungBrowser: true, useragent.Vivaldi: true,
}

func deviceName(details map[string]string) string {
	browser, system := details["browser"], details["system"]
	if browser != "" && system != "" {
		return browser + " on " + system
	}
	return cmp.Or(browser, system, "Unknown device")
}

// ago returns how long before now something was. The store notes a visit once a minute, so it is
// not exact to the second.
func ago(now, t time.Time) string {
	if now.Sub(t) < 2*time.Minute {
		return "just now"
	}
	return humanize.RelTime(t, now, "ago", "from now")
}
