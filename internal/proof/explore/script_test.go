package explore

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// script is what is to be tried: settings, and for each actor a chain of requests and the
// process that they are made to. As text: "owner,reject: login@1 poll+logout@2".
type script struct {
	settings
	actors []chain
}

type chain struct {
	kinds []string
	site  int
}

type settings struct {
	reject     bool // ConflictReject
	sealed     bool
	aged       bool // a touch is due
	replicaSet bool
	owner      bool // OwnerKey is set
	mixed      bool // but not in process 2, which has another MaxAge too
	migrate    bool // the session is one of a CookieStore
	flashed    bool // the session has a flash
	browser    bool // all requests are of one browser, whose responses come in any order
}

func (s *settings) fields() []struct {
	name string
	on   *bool
} {
	return []struct {
		name string
		on   *bool
	}{
		{"reject", &s.reject},
		{"sealed", &s.sealed},
		{"aged", &s.aged},
		{"rs", &s.replicaSet},
		{"owner", &s.owner},
		{"mixed", &s.mixed},
		{"migrate", &s.migrate},
		{"flashed", &s.flashed},
		{"browser", &s.browser},
	}
}

func (s script) String() string {
	var on, actors []string
	for _, f := range s.fields() {
		if *f.on {
			on = append(on, f.name)
		}
	}
	for _, a := range s.actors {
		actors = append(actors, fmt.Sprintf("%s@%d", strings.Join(a.kinds, "+"), a.site))
	}
	return strings.Join(on, ",") + ": " + strings.Join(actors, " ")
}

// requests returns what is requested, in an order that does not depend on the processes.
func (s script) requests() string {
	var all []string
	for _, a := range s.actors {
		all = append(all, strings.Join(a.kinds, "+"))
	}
	slices.Sort(all)
	text := strings.Join(all, " ")
	if s.migrate {
		text = "migrate " + text
	}
	return text
}

func parseScript(text string) (s script, err error) {
	on, actors, ok := strings.Cut(text, ":")
	if !ok {
		return s, fmt.Errorf("%q is no script", text)
	}
	for _, name := range strings.FieldsFunc(on, func(r rune) bool { return r == ',' || r == ' ' }) {
		known := false
		for _, f := range s.fields() {
			if f.name == name {
				*f.on, known = true, true
			}
		}
		if !known {
			return s, fmt.Errorf("%q is no setting", name)
		}
	}
	for text := range strings.FieldsSeq(actors) {
		kinds, site, ok := strings.Cut(text, "@")
		n := 1
		if ok {
			if n, err = strconv.Atoi(site); err != nil {
				return s, err
			}
		}
		s.actors = append(s.actors, chain{strings.Split(kinds, "+"), n})
	}
	if len(s.actors) == 0 {
		return s, fmt.Errorf("%q has no requests", text)
	}
	return s, nil
}

func mustParse(text string) script {
	s, err := parseScript(text)
	if err != nil {
		panic(err)
	}
	return s
}

// has reports whether one of the requests is of a kind.
func (s *script) has(kinds ...string) bool {
	return slices.ContainsFunc(s.actors, func(a chain) bool {
		return slices.ContainsFunc(a.kinds, func(k string) bool { return slices.Contains(kinds, k) })
	})
}

// configFor returns the settings of a process. Each has a Timeout of its own.
func (s *script) configFor(site int) mongostore.Config {
	cfg := mongostore.Config{Cleanup: noCleaning, Logger: quiet, Timeout: timeoutOf(site)}
	if s.owner {
		cfg.OwnerKey = "user"
	}
	if s.reject {
		cfg.OnConflict = rejects
	}
	if s.sealed {
		cfg.SealKeys = [][]byte{sealKey}
	}
	if s.migrate {
		cfg.MigrateFrom = s.oldStore()
	}
	if s.mixed && site == 2 {
		cfg.OwnerKey = ""
		cfg.Options = &sessions.Options{Path: "/", MaxAge: 7200, HttpOnly: true, Secure: true}
	}
	return cfg
}

// timeoutOf returns a process's Timeout: so different that one can be waited for while
// the commands of another are held back.
func timeoutOf(site int) time.Duration { return 5 * time.Second << (2 * (site - 1)) }

func (s *script) oldStore() *sessions.CookieStore {
	old := sessions.NewCookieStore(oldCookies)
	old.Options = &sessions.Options{Path: "/", MaxAge: 86400, HttpOnly: true, Secure: true}
	return old
}

func (s *script) revokesAt(site int) bool {
	return slices.ContainsFunc(s.actors, func(a chain) bool { return a.site == site && slices.Contains(a.kinds, "revoke") })
}
