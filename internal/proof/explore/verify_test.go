package explore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

// What has to hold after each run, when all requests have ended, all stores are
// closed, and so what they had to repeat is done.
//
// Terms. A family is a session and what was renewed from it: the IDs that it has had.
// The first family is the one that the script begins with. A session that was made because a
// request found none begins a family. Of two renewals of one session that both succeed, the
// one that the first was not renewed to begins a family as well (a login form sent twice).
// A family lives if a store loads a session under one of its IDs.
//
//  1. Errors. A request ends with nil, ErrGone, ErrConflict (under Reject only) or
//     ErrUnavailable (after a fault only). ErrGone needs a request that ends or renews a
//     session, and ErrConflict one that writes what another has written.
//  2. Cookies. An error sets none, but for a renewal's ErrUnavailable, whose cookie
//     is that of the new ID. A renewal that returned nil sets that one too, and a logout that
//     returned nil an expiring one.
//  3. Every nil is true, and nothing acknowledged is lost. If a save returned nil and its family lives, its key is
//     there; if several wrote one key, a value that no acknowledged save was
//     to replace afterwards. The family lives unless somebody ended it.
//  4. What was refused is not there: no key of a save that returned ErrGone or ErrConflict,
//     unless a fault hit it.
//  5. Under Reject no two saves of one value of a key are both acknowledged.
//  6. Lists. A flash that was acknowledged is either there or was shown, if the family
//     lives; it is there once; no request shows it that began after another one had shown it;
//     and what was shown is not there. (Shown is what a request took out whose save returned
//     nil; a request whose save failed without an answer may have taken it. Two requests that
//     have both loaded a flash before either was saved both show it: no store can help it.)
//  7. Nothing ended lives. If a logout, a removal or a revocation returned nil, the family of the
//     ID that it was about does not live: not under an ID that a concurrent renewal made, and
//     not by a save that came later.
//  8. One session, one document. There is at most one live document for each family, and none
//     of which nobody knows the ID.
//  9. A renewal that returned nil has ended the old ID.
//  10. Progress. Without faults, under Merge, a save returns nil and a login as well, unless
//     another request of the script ends or renews the session. With an OwnerKey a
//     login returns nil although another one renews the session.
//  11. The browser, in scripts with one. Its user's requests are logins and logouts, each
//     begun when the response to the one before has come, or was given up by the
//     browser for a newer one of the same kind (a double click); other requests
//     are the page's own, begun at any time, and answered in any order. If the last of
//     the user's requests was a login that renewed a session and returned nil, or
//     ErrUnavailable with a cookie, the cookie in the jar is that of a live session
//     with the user; if it was a logout that returned nil, it is not. The same goes for a
//     login that found no session, unless a request of the page has found none either and
//     made one: the server cannot know that the two are of one browser. And
//     a request of the page for which a touch was due, and which was carried out before the
//     login, has been answered with the old cookie; if the answer comes after that
//     of the login, no server can help it.
func (b *bubble) verify() {
	c := &check{bubble: b, family: map[string]int{}, live: map[string]*sessions.Session{}}
	c.settle()
	c.families()
	c.look()
	c.errors()
	c.keys()
	c.lists()
	c.ends()
	c.documents()
	if b.script.browser {
		c.browser()
	}
	_ = c.client.Close(context.Background())
}

type check struct {
	*bubble
	family map[string]int // of IDs; 1 is the first
	copied map[int]bool   // families that are copies of a session that was renewed twice
	ids    []string       // known, the latest first
	live   map[string]*sessions.Session
	client *mongostore.Store
	oldHas bool // a session with the user is loaded by the cookie of the store to migrate from
}

// settle completes the renewals that were left undecided, as the browsers' next requests do.
func (c *check) settle() {
	for _, p := range c.sites {
		c.client = c.openOn(p.client, p.dialer, 9, c.script.configFor(1)).store
		break
	}
	for _, v := range c.byEnd() {
		if strings.Contains(v.issued, ".") {
			_, _ = c.client.Fetch(context.Background(), name, v.issued)
		}
	}
}

// byEnd returns the visits in the order of their ends.
func (c *check) byEnd() []*visit {
	return slices.SortedStableFunc(slices.Values(c.visits), func(v, w *visit) int { return v.ret - w.ret })
}

// renewedTo returns the ID that a session was renewed to, if a visit has it. The empty ID stands for the
// session of the store to migrate from.
func (c *check) renewedTo(id string) string {
	known, renewed := map[any]string{}, map[any]bool{}
	for _, v := range c.visits {
		known[keyOf(v.id)], known[keyOf(v.issued)] = v.id, v.issued
		renewed[keyOf(v.issued)] = v.kind == "login"
	}
	for _, doc := range c.server.Documents("sessions") {
		fields := fieldsOf(doc)
		if hash := fields["_id"]; hash == keyOf(id) || id == "" && !renewed[hash] && fields["movedTo"] != nil {
			return known[fields["movedTo"]]
		}
	}
	return ""
}

// families finds out which IDs belong together.
func (c *check) families() {
	last := 1
	c.copied = map[int]bool{}
	if c.first != "" {
		c.family[c.first] = 1
		c.ids = append(c.ids, c.first)
	}
	renewed := map[string]bool{}
	for _, v := range c.byEnd() {
		for _, id := range []string{v.id, v.issued} {
			if id == "" || c.family[id] != 0 {
				continue
			}
			from := c.family[v.presented]
			if v.old {
				from = 1
			}
			source := v.presented
			switch {
			case from != 0 && v.user && (!v.isNew || v.old):
				c.family[id] = from
				if v.kind == "login" && (v.err == nil || v.undecided()) {
					to := c.renewedTo(source)
					if to == "" && renewed[source] || to != "" && keyOf(to) != keyOf(id) {
						last++
						c.family[id] = last
						c.copied[last] = true
					}
					renewed[source] = true
				}
			default:
				last++
				c.family[id] = last
			}
			c.ids = append(c.ids, id)
		}
	}
	slices.Reverse(c.ids)
}

// look loads all sessions there are, as a process would that comes later.
func (c *check) look() {
	for _, id := range c.ids {
		session, err := c.client.Fetch(context.Background(), name, id)
		switch {
		case err == nil:
			c.live[id] = session
		case !errors.Is(err, mongostore.ErrNotFound):
			c.problem("a session cannot be loaded: " + err.Error())
		}
	}
	if c.script.migrate {
		session, err := c.client.New(newRequest(c.start), name)
		if err != nil {
			c.problem("the old cookie cannot be loaded: " + err.Error())
		}
		c.oldHas = err == nil && session.Values["user"] == "ada"
		if id := session.ID; err == nil && id != "" && c.family[id] == 0 {
			c.family[id], c.ids, c.live[id] = 1, append(c.ids, id), session
		}
	}
}

// of returns the live sessions of a family.
func (c *check) of(family int) (all []*sessions.Session) {
	for _, id := range c.ids {
		if s := c.live[id]; s != nil && c.family[id] == family {
			all = append(all, s)
		}
	}
	return all
}

// familyOf returns the family that a request was about, or 0.
func (c *check) familyOf(v *visit) int {
	if v.kind == "revoke" {
		return 1
	}
	if v.old {
		return 1
	}
	return c.family[v.presented]
}

func (v *visit) ends() bool {
	return slices.Contains([]string{"logout", "remove", "revoke"}, v.kind)
}

func (v *visit) unavailable() bool { return errors.Is(v.err, mongostore.ErrUnavailable) }

func (v *visit) refused() bool {
	return errors.Is(v.err, mongostore.ErrGone) || errors.Is(v.err, mongostore.ErrConflict)
}

// saved reports whether a request has saved something into the session that it was about.
func (v *visit) saved() bool { return v.err == nil && v.answered && !v.isNew }

func (c *check) errors() {
	for _, v := range c.visits {
		switch {
		case v.err == nil:
		case errors.Is(v.err, mongostore.ErrGone) || errors.Is(v.err, mongostore.ErrNotFound):
			if !c.script.has("login", "logout", "remove", "revoke") {
				c.problem("it is said to be gone, and nobody has ended it", v)
			}
		case errors.Is(v.err, mongostore.ErrConflict):
			if !c.script.reject || c.script.has("logout", "remove", "revoke") && len(c.script.actors) == 2 {
				c.problem("there can be no conflict", v)
			}
		case v.unavailable():
			if !c.faulted {
				c.problem("it is said to be unavailable, and nothing was in the way", v)
			}
		default:
			c.problem("there is no such error", v)
		}
		switch {
		case v.leaked && (v.kind != "login" || !v.unavailable()):
			c.problem("a cookie was set with an error", v)
		case v.kind == "login" && v.err == nil && (v.issued == "" || v.issued != v.id):
			c.problem("the cookie is not that of the session", v)
		case v.kind == "logout" && v.err == nil && !v.expired:
			c.problem("the cookie does not expire", v)
		}
		if v.err == nil || c.faulted || c.script.reject {
			continue
		}
		twice := v.kind == "login" && c.script.owner && !c.script.mixed
		if !slices.ContainsFunc(c.visits, func(w *visit) bool { return w != v && (w.ends() || w.kind == "login" && !twice) }) {
			c.problem("it fails, and nothing was in the way", v)
		}
	}
}

// endedBy reports whether a family may have ended: by a request that says so, or whose
// outcome is not known.
func (c *check) endedBy(family int) bool {
	return slices.ContainsFunc(c.visits, func(v *visit) bool { return v.ends() && c.familyOf(v) == family })
}

func (c *check) keys() {
	alive := c.of(1)
	if len(alive) == 0 && !c.endedBy(1) && (!c.script.migrate || c.wasSaved()) {
		c.problem("the session is lost")
	}
	if len(alive) == 0 {
		return
	}
	holds := func(key string) (all []int) {
		for _, s := range alive {
			n, _ := s.Values[key].(int)
			all = append(all, n)
		}
		return all
	}
	for _, v := range c.visits {
		if v.key == "" || v.kind == "same" || c.familyOf(v) != 1 {
			continue
		}
		stored := slices.Contains(holds(v.key), v.value)
		if v.kind == "login" && c.copied[c.family[v.id]] {
			continue
		}
		switch {
		case v.saved() && c.familyIn(v) && !stored:
			c.problem("a key that was saved is lost", v)
		case v.refused() && !v.doubtful && stored:
			c.problem("a key that was refused is there", v)
		}
	}
	var same []*visit
	for _, v := range c.visits {
		if v.kind == "same" && c.familyOf(v) == 1 && v.answered && !v.isNew {
			same = append(same, v)
		}
	}
	if len(same) == 0 {
		return
	}
	held := holds("n")[0]
	for _, v := range same {
		for _, w := range same {
			if v != w && v.saved() && w.saved() && c.script.reject && v.base == w.base {
				c.problem("two saves replaced one value of a key", v, w)
			}
			if held == v.value && v != w && w.saved() && w.call > v.ret && v.err == nil {
				c.problem("a later save of the key is lost", v, w)
			}
		}
		if v.refused() && !v.doubtful && held == v.value {
			c.problem("a key that was refused is there", v)
		}
		if v.saved() && held == 0 {
			c.problem("a key that was saved is lost", v)
		}
	}
}

// undecided reports whether the database did not say whether a renewal was carried out.
func (v *visit) undecided() bool {
	return v.kind == "login" && v.unavailable() && len(v.cookies) > 0
}

// familyIn reports whether the session of a request is still of the first family.
func (c *check) familyIn(v *visit) bool { return c.family[v.id] == 1 }

func (c *check) wasSaved() bool {
	return slices.ContainsFunc(c.visits, func(v *visit) bool { return v.saved() && v.id != "" })
}

func (c *check) lists() {
	times := map[string]int{}
	takers := map[string][]*visit{}
	perhaps := map[string]bool{}
	acknowledged := map[string]bool{}
	refused := map[string]bool{}
	if c.script.flashed {
		acknowledged["f0"] = true
	}
	for _, v := range c.visits {
		if v.added != "" && v.err == nil {
			acknowledged[v.added] = true
		}
		if v.added != "" && v.refused() && !v.doubtful {
			refused[v.added] = true
		}
		for _, f := range v.shown {
			switch {
			case v.err == nil:
				times[f]++
				takers[f] = append(takers[f], v)
			case v.unavailable():
				perhaps[f] = true
			}
		}
	}
	for _, visits := range takers {
		for _, v := range visits {
			for _, w := range visits {
				if w.call > v.ret {
					c.problem("a flash was shown twice", v, w)
				}
			}
		}
	}
	alive := c.of(1)
	if len(alive) != 1 {
		return
	}
	there := map[string]int{}
	for _, f := range flashesIn(alive[0]) {
		there[f]++
	}
	for f, n := range there {
		switch {
		case n > 1:
			c.problem("a flash is there twice")
		case times[f] > 0:
			c.problem("a flash was shown, and is there")
		case refused[f]:
			c.problem("a flash was refused, and is there")
		}
	}
	for f := range acknowledged {
		if there[f] == 0 && times[f] == 0 && !perhaps[f] {
			c.problem("a flash is lost")
		}
	}
}

func (c *check) ends() {
	for _, v := range c.visits {
		if v.err != nil {
			continue
		}
		family := c.familyOf(v)
		if v.ends() && family != 0 {
			if n := len(c.of(family)); n > 0 {
				c.problem("it lives after it has ended", v)
			}
			if v.old && c.oldHas {
				c.problem("the old store's cookie brings it back", v)
			}
		}
		if v.kind == "login" && v.presented != "" && v.id != v.presented && c.live[v.presented] != nil {
			c.problem("the old ID works", v)
		}
		if v.kind == "login" && v.id == v.presented && v.id != "" {
			c.problem("the ID is the same", v)
		}
	}
}

func fieldsOf(doc bson.D) map[string]any {
	fields := map[string]any{}
	for _, e := range doc {
		fields[e.Key] = e.Value
	}
	return fields
}

// documents counts the sessions that are in the database.
func (c *check) documents() {
	hashes := map[string]string{}
	for _, id := range c.ids {
		hashes[keyOf(id)] = id
	}
	count := map[int]int{}
	now := bson.NewDateTimeFromTime(time.Now())
	for _, doc := range c.server.Documents("sessions") {
		fields := fieldsOf(doc)
		id, _ := fields["_id"].(string)
		expires, _ := fields["expiresAt"].(bson.DateTime)
		if _, counted := fields["rev"]; fields["movedTo"] != nil || !counted || fields["rev"] == nil || expires <= now {
			continue
		}
		known, ok := hashes[id]
		if !ok {
			c.problem("there is a session that nobody knows the ID of")
			continue
		}
		count[c.family[known]]++
	}
	for _, n := range count {
		if n > 1 {
			c.problem("there are several documents of one session")
		}
	}
}

func (c *check) browser() {
	var users []*visit
	for _, v := range c.visits {
		if isNavigation(v) {
			users = append(users, v)
		}
	}
	if len(users) == 0 {
		return
	}
	last := users[len(users)-1]
	for _, v := range users[:len(users)-1] {
		if v.ret > last.call && v.kind != last.kind {
			return // the user did not wait
		}
	}
	if last.dropped {
		return
	}
	session, err := c.client.New(newRequest(c.shared.Cookies(site)), name)
	if err != nil {
		c.problem("the browser's cookie cannot be loaded: " + err.Error())
		return
	}
	in := !session.IsNew && session.Values["user"] == "ada"
	switch {
	case last.kind == "logout" && last.err == nil && in:
		c.problem("the user is logged in after the logout")
	case last.kind == "login" && last.isNew && c.pageBegan():
		// It found no session, and so did a request of the page, which has made one of its own.
	case last.kind == "login" && c.script.aged && c.touchedBefore(last):
		// A request of the page has moved the expiry, and the cookie's, before the login.
	case last.kind == "login" && !in && (last.err == nil || last.unavailable() && last.issued != "") && !c.endedBy(c.family[last.id]):
		c.problem("the user is not logged in after the login")
	}
}

// touchedBefore reports whether a request of the page got the cookie of an earlier session, by a
// save that began before the login had ended. An undecided login has not ended the session yet.
func (c *check) touchedBefore(login *visit) bool {
	return slices.ContainsFunc(c.visits, func(v *visit) bool {
		return !isNavigation(v) && v.issued != "" && v.issued != login.id && (v.call < login.ret || login.undecided())
	})
}

// pageBegan reports whether a request of the page found no session and made one.
func (c *check) pageBegan() bool {
	return slices.ContainsFunc(c.visits, func(v *visit) bool { return !isNavigation(v) && v.isNew && v.issued != "" })
}

// summary says what the requests of a run came to.
func (b *bubble) summary() string {
	var s []string
	for _, v := range b.visits {
		s = append(s, v.String())
	}
	return strings.Join(s, "; ")
}

func (b *bubble) line() string {
	return fmt.Sprintf("%s | %s", b.script, strings.Join(b.taken, " "))
}
