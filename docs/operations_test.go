package docs_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestWarningsAreListed: the page lists all messages that the source logs, with their attributes,
// and no others.
func TestWarningsAreListed(t *testing.T) {
	t.Parallel()
	logged, listed := warningsOfSource(t), warningsOfPage(t)
	for message, attributes := range logged {
		if got, ok := listed[message]; !ok || got != attributes {
			t.Errorf("logged with attributes %q, listed with %q: %s", attributes, got, message)
		}
	}
	for message := range listed {
		if _, ok := logged[message]; !ok {
			t.Errorf("listed, but never logged: %s", message)
		}
	}
}

// warningsOfPage returns the attributes of each message in the page's list.
func warningsOfPage(t *testing.T) map[string]string {
	t.Helper()
	listed := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(mongostore: [^`]+)` \\|([^|]*)\\|").FindAllStringSubmatch(page(t, operations), -1) {
		listed[row[1]] = strings.TrimSpace(strings.NewReplacer("`", "", ",", "").Replace(row[2]))
	}
	if len(listed) == 0 {
		t.Fatal("no list of warnings in ", operations)
	}
	return listed
}

// warningsOfSource returns the attributes of each message that the package logs. It fails on
// a call of the logger that it does not understand.
func warningsOfSource(t *testing.T) map[string]string {
	t.Helper()
	logged := map[string]string{}
	for path, file := range storetest.SourceFiles(t, ".", false) {
		for _, decl := range file.Decls {
			function, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(function, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				method, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !isLogger(method.X) {
					return true
				}
				args := call.Args
				switch method.Sel.Name {
				case "Warn":
				case "WarnContext":
					args = args[1:]
				default:
					t.Errorf("%s: %s logs by %s, which is no warning", path, function.Name, method.Sel.Name)
					return true
				}
				var attributes []string
				for i := 1; i < len(args); i += 2 {
					attributes = append(attributes, text(args[i]))
				}
				messages := literals(function, args[0])
				if len(messages) == 0 {
					t.Errorf("%s: %s logs a message that the test cannot find out", path, function.Name)
				}
				for _, m := range messages {
					logged[m] = strings.Join(attributes, " ")
				}
				return true
			})
		}
	}
	return logged
}

// isLogger holds for s.logger().
func isLogger(x ast.Expr) bool {
	call, ok := x.(*ast.CallExpr)
	if !ok {
		return false
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	return ok && method.Sel.Name == "logger"
}

// text returns the value of a string literal.
func text(x ast.Expr) string {
	if lit, ok := x.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		s, _ := strconv.Unquote(lit.Value)
		return s
	}
	return ""
}

// literals returns the strings that an expression can be: it is a literal, or a variable of
// the function that literals are assigned to, or a parameter of a function within that is
// called with literals.
func literals(function *ast.FuncDecl, x ast.Expr) (found []string) {
	if s := text(x); s != "" {
		return []string{s}
	}
	variable, ok := x.(*ast.Ident)
	if !ok {
		return nil
	}
	add := func(x ast.Expr) {
		if s := text(x); s != "" {
			found = append(found, s)
		}
	}
	ast.Inspect(function, func(n ast.Node) bool {
		assignment, ok := n.(*ast.AssignStmt)
		if !ok || len(assignment.Lhs) != len(assignment.Rhs) {
			return true
		}
		for i, left := range assignment.Lhs {
			name, ok := left.(*ast.Ident)
			if !ok {
				continue
			}
			if name.Name == variable.Name {
				add(assignment.Rhs[i])
			}
			if inner, ok := assignment.Rhs[i].(*ast.FuncLit); ok {
				if at := parameter(inner, variable.Name); at >= 0 {
					eachCall(function, name.Name, func(args []ast.Expr) { add(args[at]) })
				}
			}
		}
		return true
	})
	return found
}

// parameter returns the place of a function's parameter, or -1.
func parameter(function *ast.FuncLit, name string) int {
	at := 0
	for _, field := range function.Type.Params.List {
		for _, n := range field.Names {
			if n.Name == name {
				return at
			}
			at++
		}
	}
	return -1
}

func eachCall(within ast.Node, name string, visit func(args []ast.Expr)) {
	ast.Inspect(within, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if f, ok := call.Fun.(*ast.Ident); ok && f.Name == name {
				visit(call.Args)
			}
		}
		return true
	})
}

// actions are the rights that commands need:
// https://www.mongodb.com/docs/manual/reference/privilege-actions/
var actions = map[string]string{
	"find": "find", "getMore": "find", "aggregate": "find", "insert": "insert", "update": "update",
	"delete": "remove", "createIndexes": "createIndex", "listIndexes": "listIndexes",
}

// TestCommandsAreListed: the page's table has the commands that each call sends, and the rights
// for them; and the roles have these rights, no more and no fewer.
func TestCommandsAreListed(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	b := f.Browser()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	calls := []struct {
		of  string // the beginning of the row
		do  func()
		pre func()
	}{
		{"`Get`, `New`, `Fetch` ", func() {
			session := b.Load()
			_, err := f.Store.Fetch(t.Context(), storetest.Name, session.ID)
			check(err)
			f.Browser().Load()
		}, nil},
		{"`Save`, `Persist` of a new session ", func() {
			session := f.Browser().Load()
			session.Values["user"] = "ada"
			check(f.Store.Persist(t.Context(), session))
			f.Browser().Login()
		}, nil},
		{"`Save`, `Persist` of a change; `Save`, `Touch` when the expiry is due ", func() {}, nil},
		{"`Save`, `Persist`, `Touch` otherwise ", func() {}, nil},
		{"`Save` with a negative `MaxAge`, `Remove`, `Revoke` ", func() {
			key := storetest.HashOf(b.Load().ID)
			f.Log.Reset()
			check(f.Store.Revoke(t.Context(), key))
		}, nil},
		{"`Renew` ", func() {
			session := b.Load()
			f.Log.Reset()
			_, err := b.Renew(session)
			check(err)
		}, nil},
		{"`Sessions`, `All` ", func() {
			for _, err := range f.Store.Sessions(t.Context(), "ada") {
				check(err)
			}
			for _, err := range f.Store.All(t.Context()) {
				check(err)
			}
		}, nil},
		{"`RevokeAll` ", func() {
			_, err := f.Store.RevokeAll(t.Context(), "ada")
			check(err)
		}, nil},
		{"`Count` ", func() {
			_, err := f.Store.Count(t.Context())
			check(err)
		}, nil},
		{"`DeleteExpired`", func() {
			_, err := f.Store.DeleteExpired(t.Context())
			check(err)
		}, func() { f.Expire() }},
		{"`EnsureIndexes`", func() {
			cfg := f.Cfg
			cfg.Cleanup = mongostore.CleanupTTLIndex
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
			store, err := mongostore.Open(t.Context(), cfg, storetest.SigningKey)
			check(err)
			check(store.Close(t.Context()))
		}, nil},
	}
	// Saves are looked at without their loads.
	calls[2].do = func() {
		session := b.Load()
		f.Log.Reset()
		session.Values["n"] = 1
		_, err := b.Save(session)
		check(err)
		session.Values["n"] = 2
		check(f.Store.Persist(t.Context(), session))
		f.WantCommands("update", "update")
		due := storetest.SetDate("seenAt", time.Now().Add(-time.Hour))
		f.Edit(due)
		for _, touch := range []func(*sessions.Session) error{
			func(s *sessions.Session) error { return f.Store.Touch(t.Context(), s) },
			func(s *sessions.Session) error {
				_, err := b.Save(s)
				return err
			},
		} {
			session := b.Load()
			f.Log.Reset()
			check(touch(session))
			f.WantCommands("update")
			f.Edit(due)
		}
		session = b.Load()
		f.Log.Reset()
		check(f.Store.Touch(t.Context(), session))
	}
	calls[3].do = func() {
		session := b.Load()
		f.Log.Reset()
		_, err := b.Save(session)
		check(err)
		check(f.Store.Persist(t.Context(), session))
		check(f.Store.Touch(t.Context(), session))
	}

	table, _, _ := strings.Cut(page(t, operations), "\nWhere requests collide")
	rows := regexp.MustCompile("(?m)^\\| (`.+) \\| (.*) \\|(.*)\\|$").FindAllStringSubmatch(table, -1)
	if len(rows) != len(calls) {
		t.Fatalf("%d rows, want %d", len(rows), len(calls))
	}
	rights := map[string]bool{}
	for i, call := range calls {
		row := rows[i]
		if !strings.HasPrefix(row[1]+" ", call.of) {
			t.Fatalf("row %q, want %q", row[1], call.of)
		}
		b.Cookies = map[string]string{}
		b.Login()
		if call.pre != nil {
			call.pre()
		}
		f.Log.Reset()
		call.do()
		sent, needed := map[string]bool{}, map[string]bool{}
		for _, command := range f.Log.Reset() {
			sent[command], needed[actions[command]], rights[actions[command]] = true, true, true
		}
		listed := map[string]bool{}
		for _, m := range codeSpan.FindAllString(row[2], -1) {
			listed[strings.Trim(m, "`")] = true
		}
		if !maps.Equal(sent, listed) {
			t.Errorf("%s: sent %v, listed %v", row[1], sent, listed)
		}
		if got := strings.FieldsFunc(row[3], func(r rune) bool { return r == ' ' || r == ',' }); !maps.Equal(needed, setOf(got)) {
			t.Errorf("%s: needs %v, listed %v", row[1], needed, got)
		}
	}

	roles := regexp.MustCompile(`actions: \[(.*)\]`).FindAllStringSubmatch(page(t, operations), -1)
	if len(roles) != 2 {
		t.Fatalf("%d roles, want 2", len(roles))
	}
	for i, role := range roles {
		var granted []string
		for action := range strings.SplitSeq(role[1], ", ") {
			granted = append(granted, strings.Trim(action, `"`))
		}
		if i == 1 {
			delete(rights, "createIndex")
		}
		if !maps.Equal(rights, setOf(granted)) {
			t.Errorf("role %d: needs %v, has %v", i, rights, granted)
		}
	}
}

func setOf(list []string) map[string]bool {
	set := map[string]bool{}
	for _, s := range list {
		set[s] = true
	}
	return set
}

// TestIndexesAreListed: the commands for somebody who makes the indexes by hand make those that
// the store would.
func TestIndexesAreListed(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) {
		c.OwnerKey, c.Cleanup = "user", mongostore.CleanupTTLIndex
	})
	if err := f.Coll.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = f.Store.EnsureIndexes(t.Context()) // refused by FerretDB, but sent
	_, commands := f.Log.Take()
	var made []string
	for _, c := range commands {
		var command struct {
			Indexes []struct {
				Key    bson.D
				Expire *int32 `bson:"expireAfterSeconds"`
				Filter bson.D `bson:"partialFilterExpression"`
			}
		}
		if c.Index(0).Key() != "createIndexes" {
			continue
		}
		if err := bson.Unmarshal(c, &command); err != nil {
			t.Fatal(err)
		}
		for _, index := range command.Indexes {
			var keys []string
			for _, k := range index.Key {
				keys = append(keys, fmt.Sprintf("%s: %v", k.Key, k.Value))
			}
			call := "db.sessions.createIndex({ " + strings.Join(keys, ", ") + " }"
			if index.Expire != nil {
				call += fmt.Sprintf(", { expireAfterSeconds: %d, partialFilterExpression: %s }", *index.Expire, shell(index.Filter))
			}
			made = append(made, call+")")
		}
	}
	if len(made) != 2 {
		t.Fatalf("indexes made: %q", made)
	}
	for _, call := range made {
		if !strings.Contains(page(t, operations), "\n"+call) {
			t.Errorf("not on the page: %s", call)
		}
	}
}

// shell returns a document as one writes it in mongosh.
func shell(doc bson.D) string {
	var fields []string
	for _, e := range doc {
		v := fmt.Sprint(e.Value)
		if inner, ok := e.Value.(bson.D); ok {
			v = shell(inner)
		}
		fields = append(fields, e.Key+": "+v)
	}
	return "{ " + strings.Join(fields, ", ") + " }"
}

// The pages say what is so: links lead somewhere, and the lists are those of the code.

const operations = "docs/operations.md"

// What docs/operations.md says an operator will see.

// records is a slog.Handler that keeps what it is given.
type records struct {
	mu  sync.Mutex
	all []slog.Record
}

func (h *records) Enabled(context.Context, slog.Level) bool { return true }

func (h *records) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h *records) WithGroup(string) slog.Handler { return h }

func (h *records) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, r)
	return nil
}

func (h *records) taken() []slog.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

// TestWarningsAreSeen: each message of the page's list is logged in the case that the list
// describes, as a warning, with these attributes, and tells nothing of the session.
func TestWarningsAreSeen(t *testing.T) {
	t.Parallel()
	refuse := func(f *storetest.Fixture, command string, code int) {
		f.Wire.On(command, storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(code, "Code")})
	}
	cases := map[string]func(*testing.T, *storetest.Fixture, *storetest.Browser){
		"mongostore: a signing key has less than 32 bytes": func(t *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			if _, err := mongostore.Open(t.Context(), f.Cfg, storetest.SigningKey[:31]); err != nil {
				t.Error(err)
			}
		},
		"mongostore: no TTL index, so expired sessions are swept by this process": func(_ *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			refuse(f, "createIndexes", 13)
			refuse(f, "listIndexes", 13)
			f.Cfg.OwnerKey, f.Cfg.Cleanup = "", mongostore.CleanupTTLIndex
			f.Open()
		},
		"mongostore: no index for the owners of sessions, so listing them is slow": func(_ *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			refuse(f, "createIndexes", 13)
			refuse(f, "listIndexes", 13)
			f.Open()
		},
		"mongostore: index not created yet, it will be tried again": func(_ *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			refuse(f, "createIndexes", 10107)
			f.Open()
		},
		"mongostore: expired sessions not deleted": func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			refuse(f, "find", 13)
			f.Cfg.Cleanup = mongostore.CleanupSweep
			b.Store = f.Open()
			b.Cookies = map[string]string{}
			b.Login()
		},
		"mongostore: session not removed yet, the deletion will be retried": func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			refuse(f, "delete", 10107)
			b.Logout()
			f.Wire.Heal()
			storetest.Eventually(f.T, "the deletion is repeated", func() bool { return len(f.Documents()) == 0 })
		},
		"mongostore: session not removed, and the store is closed": func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			refuse(f, "delete", 10107)
			if err := f.Store.Close(t.Context()); err != nil {
				t.Error(err)
			}
			b.Logout()
		},
		"mongostore: closed before all sessions were removed": func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			refuse(f, "delete", 10107)
			b.Logout()
			if err := f.Store.Close(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"mongostore: damaged session replaced by a new one": func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			f.Cfg.OnCorrupt = mongostore.CorruptRestart
			b.Store = f.Open()
			f.Edit(setField("createdAt", "once"))
			b.Load()
		},
		"mongostore: request failed for its session": func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			refuse(f, "find", 13)
			if code := serve(f, b); code != http.StatusServiceUnavailable {
				t.Errorf("status %d", code)
			}
		},
		"mongostore: expiry of a session not moved": func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			f.Age(time.Hour)
			refuse(f, "update", 13)
			if code := serve(f, b); code != http.StatusNotFound {
				t.Errorf("status %d", code)
			}
		},
		"mongostore: session changed after the response had begun, the change is not saved": func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			f.Store.Middleware(storetest.Name)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				session, _ := f.Store.Get(r, storetest.Name)
				_, _ = w.Write([]byte("page"))
				session.Values["n"] = 1
			})).ServeHTTP(httptest.NewRecorder(), b.Request())
		},
		"mongostore: session not saved, and the handler responded as if it was": func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			refuse(f, "update", 13)
			f.Store.Middleware(storetest.Name)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				session, _ := f.Store.Get(r, storetest.Name)
				session.Values["n"] = 1
				_ = session.Save(r, w)
			})).ServeHTTP(httptest.NewRecorder(), b.Request())
		},
		"mongostore: damaged session left out of a list": func(t *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			f.Edit(setField("createdAt", "once"))
			storetest.SessionsOf(t, f.Store, "ada")
		},
		"mongostore: migrated session not removed from the store it came from": func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			old := sessions.NewFilesystemStore(t.TempDir(), storetest.SigningKey)
			f.Cfg.MigrateFrom = storetest.FullDisk{FilesystemStore: old}
			b.Store = f.Open()
			b.Cookies = map[string]string{}
			b.LoginAt(old)
			b.Do(func(*sessions.Session) {})
		},
	}
	listed := warningsOfPage(t)
	if want, got := slices.Sorted(maps.Keys(listed)), slices.Sorted(maps.Keys(cases)); !slices.Equal(got, want) {
		t.Errorf("cases: %q\nlisted: %q", got, want)
	}
	for message, provoke := range cases {
		t.Run(strings.TrimPrefix(message, "mongostore: "), func(t *testing.T) {
			t.Parallel()
			seen := &records{}
			f := storetest.Setup(t, func(c *mongostore.Config) {
				c.OwnerKey, c.Logger = "user", slog.New(seen)
			})
			b := f.Browser()
			const secret = "4111111111111111"
			b.Do(func(s *sessions.Session) { s.Values["user"], s.Values["card"] = "ada", secret })
			id, cookie := b.Load().ID, b.Cookies[storetest.Name]
			provoke(t, f, b)
			storetest.Eventually(t, "the warning is logged", func() bool {
				return slices.ContainsFunc(seen.taken(), func(r slog.Record) bool { return r.Message == message })
			})
			for _, r := range seen.taken() {
				var attributes []string
				told := r.Message
				r.Attrs(func(a slog.Attr) bool {
					attributes = append(attributes, a.Key)
					told += " " + a.String()
					return true
				})
				if want, ok := listed[r.Message]; !ok || strings.Join(attributes, " ") != want || r.Level != slog.LevelWarn {
					t.Errorf("%v with attributes %q, listed with %q: %s", r.Level, attributes, want, told)
				}
				for _, s := range []string{id, storetest.HashOf(id), cookie, secret, "ada"} {
					if strings.Contains(told, s) {
						t.Errorf("the log tells: %s", told)
					}
				}
			}
		})
	}
}

// serve has the middleware serve a request whose handler knows no page, and returns the status.
func serve(f *storetest.Fixture, b *storetest.Browser) int {
	w := httptest.NewRecorder()
	f.Store.Middleware(storetest.Name)(http.NotFoundHandler()).ServeHTTP(w, b.Request())
	return w.Code
}

func setField(field string, v any) bson.D {
	return bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: v}}}}
}

// TestEndAllSessions: what becomes of requests under way, and of cookies, when somebody
// empties the collection, drops it, or takes the keys away.
func TestEndAllSessions(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(context.Context, *mongo.Collection) error{
		"deleteMany": func(ctx context.Context, c *mongo.Collection) error {
			_, err := c.DeleteMany(ctx, bson.D{})
			return err
		},
		"drop": func(ctx context.Context, c *mongo.Collection) error { return c.Drop(ctx) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
			b := f.Browser().Login()
			changing, idle := b.Load(), b.Load()
			if err := end(t.Context(), f.Coll); err != nil {
				t.Fatal(err)
			}
			f.Log.Reset()
			changing.Values["n"] = 1
			if w, err := b.Clone().Save(changing); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("a change: %v, %v", err, w.Header())
			}
			if _, err := b.Clone().Save(idle); err != nil {
				t.Errorf("nothing to save: %v", err)
			}
			for _, store := range []*mongostore.Store{f.Store, f.Open()} {
				other := b.Clone()
				if other.Store = store; !other.Load().IsNew {
					t.Error("the cookie still works")
				}
			}
			f.WantDocuments(0)
		})
	}
}

// TestDroppedIndexes: a running store does not make the indexes again, and EnsureIndexes does.
func TestDroppedIndexes(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	if err := f.Coll.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Browser().Login()
	if err := f.Store.Close(t.Context()); err != nil { // waits for background work
		t.Fatal(err)
	}
	f.WantCommands("insert")
	if err := f.Store.EnsureIndexes(t.Context()); err != nil {
		t.Error(err)
	}
	f.WantCommands("createIndexes")
}

// TestWithdrawnKeys: the documents of refused cookies stay, and work again with the key.
func TestWithdrawnKeys(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	other, err := mongostore.Open(t.Context(), f.Cfg, []byte("another key of at least 32 bytes"))
	if err != nil {
		t.Fatal(err)
	}
	f.Log.Reset()
	var refused securecookie.Error
	if session, err := other.Get(b.Request(), storetest.Name); !session.IsNew || !errors.As(err, &refused) {
		t.Errorf("new %t, %v", session.IsNew, err)
	}
	f.WantCommands()
	if s := b.Load(); s.Values["user"] != "ada" {
		t.Errorf("with the old key: %v", s.Values)
	}
}

// TestEraseUser: RevokeAll also deletes what has expired.
func TestEraseUser(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	f.Browser().Login()
	f.Expire()
	f.Browser().Login()
	if n, err := f.Store.RevokeAll(t.Context(), "ada"); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	f.WantDocuments(0)
}

// TestRestoredSession: a backup brings logged-out sessions back, so it must not be restored.
func TestRestoredSession(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	cookies, backup := maps.Clone(b.Cookies), f.Document()
	b.Logout()
	b.Cookies = cookies
	if !b.Load().IsNew {
		t.Fatal("not logged out")
	}
	if _, err := f.Coll.InsertOne(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	if b.Load().IsNew {
		t.Error("a restored session does not work: change the page")
	}
}

// TestFieldsOfOthers: what others add to a document is ignored, kept by a save, and lost by a
// renewal.
func TestFieldsOfOthers(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	f.Edit(setField("note", "by support"))
	session := b.Load()
	session.Values["n"] = 1
	if _, err := b.Save(session); err != nil {
		t.Fatal(err)
	}
	if v, err := f.Document().LookupErr("note"); err != nil || v.StringValue() != "by support" {
		t.Errorf("after a save: %v, %v", v, err)
	}
	session = b.Load()
	if len(session.Values) != 2 {
		t.Errorf("values: %v", session.Values)
	}
	if _, err := b.Renew(session); err != nil {
		t.Fatal(err)
	}
	for _, doc := range f.Documents() {
		if v, err := doc.LookupErr("note"); err == nil && doc.Lookup("_id").StringValue() == storetest.HashOf(session.ID) {
			t.Errorf("after a renewal: %v", v)
		}
	}
}

// TestEditByHand: the store reads what somebody has written into a document, and a renewal
// under way carries it over if rev was raised.
func TestEditByHand(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	f.Edit(bson.D{
		{Key: "$set", Value: bson.D{{Key: "values.plan", Value: "gold"}}},
		{Key: "$inc", Value: bson.D{{Key: "rev", Value: 1}}},
	})
	if s := b.Load(); s.Values["plan"] != "gold" {
		t.Errorf("values: %v", s.Values)
	}
	if _, err := b.Renew(session); err != nil {
		t.Fatal(err)
	}
	if s := b.Load(); s.Values["plan"] != "gold" || s.Values["user"] != "ada" {
		t.Errorf("after a renewal: %v", s.Values)
	}
}

// TestRollingRotation: in each step of a key's replacement, processes of the step before and of
// this one work on each other's sessions; with two steps they would not.
func TestRollingRotation(t *testing.T) {
	t.Parallel()
	oldKey, newKey := storetest.SealKey(t), storetest.SealKey(t)
	oldSign, newSign := securecookie.GenerateRandomKey(32), securecookie.GenerateRandomKey(32)
	f := storetest.Setup(t)
	open := func(signing, sealing [][]byte) *mongostore.Store {
		cfg := f.Cfg
		cfg.SealKeys = sealing
		store, err := mongostore.Open(t.Context(), cfg, signing...)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	steps := []*mongostore.Store{
		open([][]byte{oldSign, storetest.BlockKey}, [][]byte{oldKey}),
		open([][]byte{oldSign, storetest.BlockKey, newSign, storetest.BlockKey}, [][]byte{oldKey, newKey}),
		open([][]byte{newSign, storetest.BlockKey, oldSign, storetest.BlockKey}, [][]byte{newKey, oldKey}),
		open([][]byte{newSign, storetest.BlockKey}, [][]byte{newKey}),
	}
	for i := range steps[1:] {
		b := f.Browser()
		b.Store = steps[i]
		b.Login()
		for n, store := range []*mongostore.Store{steps[i+1], steps[i], steps[i+1]} {
			b.Store = store
			session := b.Load()
			if session.Values["user"] != "ada" {
				t.Errorf("step %d, visit %d: %v", i+1, n, session.Values)
			}
			session.Values["n"] = n
			if _, err := b.Save(session); err != nil {
				t.Fatal(err)
			}
		}
	}

	// One step too quick: the process that is still old meets a new cookie, and a new seal.
	b := f.Browser()
	b.Store = steps[2]
	session := b.Login().Load()
	b.Store = steps[0]
	if _, err := b.Store.Get(b.Request(), storetest.Name); err == nil {
		t.Error("an old process knows the new signing key")
	}
	if _, err := b.Store.Fetch(t.Context(), storetest.Name, session.ID); !errors.Is(err, mongostore.ErrCorrupt) {
		t.Errorf("an old process knows the new seal key: %v", err)
	}
}

// TestTraces: a monitor of the driver finds the values of the request's context, so that a tracer
// puts each command below its request.
func TestTraces(t *testing.T) {
	t.Parallel()
	type traceKey struct{}
	var mu sync.Mutex
	traced := map[string]any{}
	client, err := mongo.Connect(options.Client().ApplyURI(storetest.Server(t).URI).SetMonitor(&event.CommandMonitor{
		Started: func(ctx context.Context, e *event.CommandStartedEvent) {
			mu.Lock()
			defer mu.Unlock()
			traced[e.CommandName] = ctx.Value(traceKey{})
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	f := storetest.Setup(t)
	store, err := mongostore.New(client.Database(f.Cfg.Database).Collection(f.Cfg.Collection), storetest.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	b := f.Browser()
	for _, change := range []func(*sessions.Session){
		func(s *sessions.Session) { s.Values["n"] = 1 },
		func(s *sessions.Session) { s.Values["n"] = 2 },
		func(s *sessions.Session) { s.Options.MaxAge = -1 },
	} {
		w := httptest.NewRecorder()
		r := b.Request()
		r = r.WithContext(context.WithValue(r.Context(), traceKey{}, "trace"))
		session, err := store.Get(r, storetest.Name)
		if err != nil {
			t.Fatal(err)
		}
		change(session)
		if err := session.Save(r, w); err != nil {
			t.Fatal(err)
		}
		b.Receive(w)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, command := range []string{"insert", "find", "update", "delete"} {
		if traced[command] != "trace" {
			t.Errorf("%s: %v", command, traced[command])
		}
	}
}

// TestSupportCommands: the page's shell commands find the _id of an ID, and the ID of a cookie.
func TestSupportCommands(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sh", "openssl", "tr", "cut", "head"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs", tool)
		}
	}
	scripts := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(page(t, operations), -1)
	if len(scripts) != 2 {
		t.Fatalf("%d commands, want 2", len(scripts))
	}
	run := func(script, variable, value string) string {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		cmd.Env = append(cmd.Environ(), variable+"="+value)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	f := storetest.Setup(t)
	for range 20 { // the signature's bytes differ
		b := f.Browser().Login()
		id := b.Load().ID
		key := run(scripts[0][1], "id", id)
		if n, err := f.Coll.CountDocuments(t.Context(), bson.D{{Key: "_id", Value: key}}); n != 1 || err != nil {
			t.Errorf("%d documents with the _id %q, %v", n, key, err)
		}
		if got := run(scripts[1][1], "cookie", b.Cookies[storetest.Name]); got != id {
			t.Errorf("ID: %q, want %q", got, id)
		}
	}
}

// TestWrapper: a store around the store is what gorilla saves sessions through, if its Get
// names it; all other methods are those of the store inside.
func TestWrapper(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	saves := 0
	store := counting{f.Store, &saves}
	b := f.Browser()
	r, w := b.Request(), httptest.NewRecorder()
	session, err := store.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	session.Values["user"] = "ada"
	if again, err := store.Get(r, storetest.Name); again != session || err != nil {
		t.Errorf("another session in one request: %v", err)
	}
	if err := session.Save(r, w); err != nil {
		t.Fatal(err)
	}
	if err := sessions.Save(r, w); err != nil {
		t.Fatal(err)
	}
	if saves != 2 {
		t.Errorf("%d saves went through the wrapper, want 2", saves)
	}
	b.Receive(w)
	if err := store.Renew(b.Request(), httptest.NewRecorder(), session); err != nil {
		t.Error(err)
	}
	if n, err := store.RevokeAll(t.Context(), "ada"); n != 1 || err != nil {
		t.Errorf("RevokeAll: %d, %v", n, err)
	}
}

type counting struct {
	*mongostore.Store
	saves *int
}

func (c counting) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(c, name)
}

func (c counting) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	*c.saves++
	return c.Store.Save(r, w, session)
}

// TestOperationsPageKnowsForeignIndexes: what error 11000 means.
func TestOperationsPageKnowsForeignIndexes(t *testing.T) {
	t.Parallel()
	if !strings.Contains(page(t, operations), "11000") {
		t.Error("error 11000 is not mentioned")
	}
}
