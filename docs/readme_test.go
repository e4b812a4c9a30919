package docs_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// What a newcomer copies from the README works. Its diff is compiled in internal/frameworks, with
// those of docs/migrating.md, and its table of stores is written by internal/bench.

const readme = "README.md"

var fencedBlock = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// blocksOf returns a page's blocks in a language.
func blocksOf(t *testing.T, file, language string) (blocks []string) {
	t.Helper()
	for _, m := range fencedBlock.FindAllStringSubmatch(page(t, file), -1) {
		if m[1] == language {
			blocks = append(blocks, m[2])
		}
	}
	return blocks
}

// TestReadmeIsShort: a newcomer has ten minutes.
func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	text := page(t, readme)
	if lines, words := strings.Count(text, "\n"), len(strings.Fields(text)); lines > 230 || words > 1900 {
		t.Errorf("%d lines, %d words", lines, words)
	}
}

// readmeProgram builds the README's program in a module of its own, with the other handlers of the
// README in a second file. Only the addresses are not those of the README, and there are routes
// to the other handlers.
func readmeProgram(t *testing.T) (binary string) {
	t.Helper()
	blocks := blocksOf(t, readme, "go")
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of Go, want the program and the handlers of devices", len(blocks))
	}
	if page(t, "example/minimal/main.go") != blocks[0] {
		t.Error("example/minimal has another program")
	}
	program, handlers := blocks[0], "package main\n\nimport (\n\t\"fmt\"\n\t\"net/http\"\n\n\t\"github.com/mongostore/mongostore\"\n)\n\n"+blocks[1]
	for _, source := range []string{program, handlers} {
		if formatted, err := format.Source([]byte(source)); err != nil || string(formatted) != source {
			t.Errorf("not formatted as gofmt does, or an error: %v\n%s", err, source)
		}
	}
	const lastRoute = `r.HandleFunc("/logout", logout).Methods("POST")`
	for _, change := range [][2]string{
		{`mongostore.Config{Database: "app", `, `mongostore.Config{URI: os.Getenv("TEST_URI"), Database: os.Getenv("TEST_DATABASE"), Collection: os.Getenv("TEST_COLLECTION"), ` +
			`OwnerKey: "user", Describe: func(r *http.Request) map[string]string { return map[string]string{"device": r.UserAgent()} }, `},
		{`"localhost:8080"`, `os.Getenv("TEST_ADDRESS")`},
		{lastRoute, lastRoute + "\n\tr.HandleFunc(\"/devices\", devices)\n\tr.HandleFunc(\"/others\", logoutOthers)"},
	} {
		if strings.Count(program, change[0]) != 1 {
			t.Fatalf("the program has not one %s", change[0])
		}
		program = strings.Replace(program, change[0], change[1], 1)
	}
	return buildOutside(t, map[string]string{"main.go": program, "devices.go": handlers})
}

// TestReadmeProgram runs the README's program: it does not start without a key, its transcript is
// what a terminal shows, it goes on counting after a restart, and it lists and ends a user's sessions.
// It keeps what the README promises of an outage, a logout and a damaged session.
func TestReadmeProgram(t *testing.T) {
	t.Parallel()
	storetest.NeedsRepository(t)
	binary := readmeProgram(t)

	s := storetest.Server(t)
	keyless := exec.CommandContext(t.Context(), binary)
	keyless.Env = append(os.Environ(), "TEST_URI="+s.URI, "TEST_DATABASE="+s.Database, "SESSION_KEY=")
	if out, err := keyless.CombinedOutput(); err == nil || !strings.Contains(string(out), "key") {
		t.Errorf("without a key: %v\n%s", err, out)
	}
	for name, test := range map[string]func(*testing.T, string){
		"transcript":                          testTranscript,
		"restart and devices":                 testRestartAndDevices,
		"an outage logs nobody out":           testOutage,
		"a server that hangs logs nobody out": testHang,
		"a logout is final":                   testLateLogout,
		"a damaged session ends":              testDamage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, binary)
		})
	}
}

func testTranscript(t *testing.T, binary string) {
	p := runProgram(t, binary, storetest.Server(t).URI, storetest.Collection("readme"))
	transcript(t, "http://"+p.address)
}

func testRestartAndDevices(t *testing.T, binary string) {
	uri, collection := storetest.Server(t).URI, storetest.Collection("readme")
	p := runProgram(t, binary, uri, collection)
	laptop, phone := newPerson(t, "laptop"), newPerson(t, "phone")
	laptop.sees(t, p, "/", "Visit 1.")
	laptop.login(t, p, "Bob")
	laptop.sees(t, p, "/", "Hello, Bob. Visit 3.") // the login redirects to it
	p.stop()
	p = runProgram(t, binary, uri, collection)
	laptop.sees(t, p, "/", "Hello, Bob. Visit 4.")

	phone.login(t, p, "Bob")
	if list := laptop.get(t, p, "/devices"); strings.Count(list, "\n") != 2 ||
		!strings.Contains(list, "map[device:laptop] true\n") || !strings.Contains(list, "map[device:phone] false\n") {
		t.Errorf("the devices are\n%s", list)
	}
	laptop.get(t, p, "/others")
	phone.sees(t, p, "/", "<p>Visit 1.")
	laptop.sees(t, p, "/", "Hello, Bob. Visit 5.")
	laptop.logout(t, p)
	laptop.sees(t, p, "/", "<p>Visit 2.") // the logout redirects to the first
}

func testOutage(t *testing.T, binary string) {
	testUnavailable(t, binary, (*storetest.Faults).RefuseAll)
}

func testHang(t *testing.T, binary string) {
	testUnavailable(t, binary, func(f *storetest.Faults) {
		for _, command := range []string{"find", "insert"} { // the first of a visitor, and of a newcomer
			f.On(command, storetest.Rule{Kind: storetest.BlackHole})
		}
	})
}

// testUnavailable: while MongoDB does not respond, each request gets the status 503, and nobody's
// cookie changes. Afterwards those who were logged in still are.
func testUnavailable(t *testing.T, binary string, begin func(*storetest.Faults)) {
	faults := storetest.NewFaults()
	p := runProgram(t, binary, faults.Relay(t), storetest.Collection("readme"))
	ada, newcomer := newPerson(t, "laptop"), newPerson(t, "phone")
	ada.login(t, p, "Ada")
	ada.sees(t, p, "/", "Hello, Ada. Visit 2.")

	begin(faults)
	results := make(chan *response, 4)
	ask := func(who *person, method, path string, form url.Values) {
		go func() { results <- who.send(t.Context(), method, p.address, path, form) }()
	}
	ask(ada, http.MethodGet, "/", nil)
	ask(ada, http.MethodPost, "/login", url.Values{"name": {"Ada"}})
	ask(ada, http.MethodPost, "/logout", nil)
	ask(newcomer, http.MethodPost, "/login", url.Values{"name": {"Bob"}})
	for range cap(results) {
		res := <-results
		res.wantError(t, http.StatusServiceUnavailable)
		if cookies := res.header["Set-Cookie"]; cookies != nil {
			t.Errorf("%s sets %q", res.request, cookies)
		}
	}
	p.logs(t, mongostore.ErrUnavailable)

	faults.Heal()
	storetest.Eventually(t, "the program responds again", func() bool {
		return newPerson(t, "tablet").send(t.Context(), http.MethodGet, p.address, "/", nil).status == http.StatusOK
	})
	ada.sees(t, p, "/", "Hello, Ada. Visit 3.")
	newcomer.sees(t, p, "/", "<p>Visit 1.")
}

// testLateLogout: Ada logs out while a slow request of hers is about to save the session. That
// request fails, and a copy of her cookie is worthless.
func testLateLogout(t *testing.T, binary string) {
	faults, docs := storetest.NewFaults(), newCollection(t)
	p := runProgram(t, binary, faults.Relay(t), docs.Name())
	ada := newPerson(t, "laptop")
	ada.login(t, p, "Ada")
	thief, window := ada.copy(t, p), ada.copy(t, p)
	thief.sees(t, p, "/", "Hello, Ada. Visit 2.")

	seen, gate := make(chan struct{}, 1), make(chan struct{})
	faults.On("update", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: gate})
	slow := make(chan *response, 1)
	go func() { slow <- window.send(t.Context(), http.MethodGet, p.address, "/", nil) }()
	select {
	case <-seen: // it has loaded the session
	case res := <-slow:
		t.Fatalf("the slow request saves nothing: %d %s", res.status, res.body)
	}
	ada.logout(t, p)
	close(gate)
	res := <-slow
	res.wantError(t, http.StatusUnauthorized)
	if cookies := res.header["Set-Cookie"]; cookies != nil {
		t.Errorf("the slow request sets %q", cookies)
	}
	p.logs(t, mongostore.ErrGone)
	thief.sees(t, p, "/", "<p>Visit 1.")
	ada.sees(t, p, "/", "<p>Visit 2.") // the logout redirects to the first
	wantNone(t, docs, "Ada")
}

// testDamage: the first request of a session that cannot be decoded gets an error. The second one
// starts a new session. Nobody else notices, and the log names the error without the session.
func testDamage(t *testing.T, binary string) {
	docs := newCollection(t)
	p := runProgram(t, binary, storetest.Server(t).URI, docs.Name())
	bob := newPerson(t, "phone")
	bob.login(t, p, "Bob")
	for i, tt := range []struct {
		method, path, field string
		value               any
	}{
		{http.MethodGet, "/", "values", storetest.CardNumber},
		{http.MethodPost, "/login", "values.card", bson.D{{Key: "_type", Value: "renamed"}, {Key: "_value", Value: storetest.CardNumber}}},
		{http.MethodPost, "/logout", "rev", storetest.CardNumber},
	} {
		ada, user := newPerson(t, "laptop"), fmt.Sprint("Ada ", i)
		ada.login(t, p, user)
		cookie := ada.cookies(t, p)[0].Value
		before := len(p.log.String())
		res, err := docs.UpdateOne(t.Context(), bson.D{{Key: "owner", Value: user}}, bson.D{{Key: "$set", Value: bson.D{{Key: tt.field, Value: tt.value}}}})
		if err != nil || res.ModifiedCount != 1 {
			t.Fatalf("damage the document: %+v, %v", res, err)
		}
		ada.send(t.Context(), tt.method, p.address, tt.path, url.Values{"name": {user}}).wantError(t, http.StatusInternalServerError)
		if cookies := ada.cookies(t, p); len(cookies) != 0 {
			t.Errorf("after %s %s the cookies are %v", tt.method, tt.path, cookies)
		}
		wantNone(t, docs, user)
		bob.sees(t, p, "/", fmt.Sprintf("Hello, Bob. Visit %d.", i+2))
		ada.sees(t, p, "/", "<p>Visit 1.")
		ada.login(t, p, user)
		ada.sees(t, p, "/", fmt.Sprintf("Hello, %s. Visit 3.", user)) // the login redirects to the second

		var text string
		storetest.Eventually(t, "the error is logged", func() bool {
			text = p.log.String()[before:]
			return strings.Contains(text, mongostore.ErrCorrupt.Error())
		})
		if strings.Count(text, mongostore.ErrCorrupt.Error()) != 1 {
			t.Errorf("after %s %s the log is\n%s", tt.method, tt.path, text)
		}
		for _, secret := range []string{cookie, idOf(t, docs, cookie), storetest.CardNumber, user} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in the log:\n%s", secret, text)
			}
		}
	}
}

// newCollection returns a collection for a program.
func newCollection(t *testing.T) *mongo.Collection {
	t.Helper()
	s := storetest.Server(t)
	return s.Client.Database(s.Database).Collection(storetest.Collection("readme"))
}

// wantNone checks that a user has no session in the database.
func wantNone(t *testing.T, docs *mongo.Collection, user string) {
	t.Helper()
	if n, err := docs.CountDocuments(t.Context(), bson.D{{Key: "owner", Value: user}}); err != nil || n != 0 {
		t.Errorf("%d sessions of %s are left (error %v)", n, user, err)
	}
}

// idOf returns the session's ID in a cookie of the program.
func idOf(t *testing.T, docs *mongo.Collection, cookie string) (id string) {
	t.Helper()
	s, err := mongostore.New(docs, []byte(sessionKey))
	if err == nil {
		err = securecookie.DecodeMulti("session", cookie, &id, s.Codecs...)
	}
	if err != nil || id == "" {
		t.Fatalf("the ID %q, error %v", id, err)
	}
	return id
}

// transcript carries out the commands of the README, and compares what they print.
func transcript(t *testing.T, site string) {
	for _, tool := range []string{"curl", "sh", "grep", "cp"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s", tool)
		}
	}
	blocks := blocksOf(t, readme, "console")
	if len(blocks) != 1 {
		t.Fatalf("%d transcripts", len(blocks))
	}
	const base = "http://localhost:8080"
	folder, commands := t.TempDir(), strings.Split("\n"+blocks[0], "\n$ ")
	if commands[0] != "" || len(commands) < 5 {
		t.Fatalf("%d commands, after %q", len(commands)-1, commands[0])
	}
	for _, step := range commands[1:] {
		command, want, _ := strings.Cut(step, "\n")
		want = strings.TrimSuffix(want, "\n")
		sh := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(command, base, site))
		sh.Dir = folder
		// Neither a proxy nor a .curlrc of this machine has a part in it.
		sh.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + folder, "LC_ALL=C.UTF-8"}
		out, err := sh.CombinedOutput()
		if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != want {
			t.Errorf("$ %s\nprints\n%s\nand by the README\n%s\n(error %v)", command, got, want, err)
		}
	}
}

// person has a browser.
type person struct {
	client *http.Client
	device string
}

func newPerson(t *testing.T, device string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &person{&http.Client{Jar: jar, Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}, device}
}

// copy returns a person with the same cookies.
func (p *person) copy(t *testing.T, at *program) *person {
	t.Helper()
	c := newPerson(t, p.device)
	c.client.Jar.SetCookies(at.url(), p.cookies(t, at))
	return c
}

func (p *person) cookies(t *testing.T, at *program) []*http.Cookie {
	t.Helper()
	return p.client.Jar.Cookies(at.url())
}

// response is what a browser shows, after redirects.
type response struct {
	request string
	status  int
	header  http.Header
	body    string
	err     error
}

func (p *person) send(ctx context.Context, method, address, path string, form url.Values) *response {
	// The cookies are kept by the name of the host: a restart changes the port only.
	r, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, strings.NewReader(form.Encode()))
	if err != nil {
		return &response{request: method + " " + path, err: err}
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("User-Agent", p.device)
	res, err := p.client.Do(r)
	if err != nil {
		return &response{request: method + " " + path, err: err}
	}
	body, err := io.ReadAll(res.Body)
	return &response{method + " " + path, res.StatusCode, res.Header, string(body), errors.Join(err, res.Body.Close())}
}

// wantError checks that a response is that of the program's onError.
func (r *response) wantError(t *testing.T, status int) {
	t.Helper()
	if r.err != nil || r.status != status || r.body != "Please try again.\n" {
		t.Errorf("%s: %d %q, error %v, want %d", r.request, r.status, r.body, r.err, status)
	}
}

func (p *person) do(t *testing.T, method string, at *program, path string, form url.Values) string {
	t.Helper()
	res := p.send(t.Context(), method, at.address, path, form)
	if res.err != nil || res.status != http.StatusOK {
		t.Errorf("%s %s: %d, %v", method, path, res.status, res.err)
	}
	return res.body
}

func (p *person) get(t *testing.T, at *program, path string) string {
	t.Helper()
	return p.do(t, http.MethodGet, at, path, nil)
}

func (p *person) login(t *testing.T, at *program, name string) {
	t.Helper()
	p.do(t, http.MethodPost, at, "/login", url.Values{"name": {name}})
}

func (p *person) logout(t *testing.T, at *program) {
	t.Helper()
	p.do(t, http.MethodPost, at, "/logout", nil)
}

func (p *person) sees(t *testing.T, at *program, path, want string) {
	t.Helper()
	if got := p.get(t, at, path); !strings.Contains(got, want) {
		t.Errorf("%s has\n%s\nwant %q", path, got, want)
	}
}

// buildOutside builds a program in a module of its own, which knows this one by a replace.
func buildOutside(t *testing.T, sources map[string]string) (binary string) {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	const path, router = "github.com/mongostore/mongostore", "github.com/gorilla/mux"
	mux := regexp.MustCompile(router + ` v\S+`).FindString(page(t, "example/go.mod"))
	mod := strings.Replace(page(t, "go.mod"), "module "+path, "module example.com/visits", 1) +
		fmt.Sprintf("\nrequire %s\n\nrequire %s v0.0.0\n\nreplace %s => %q\n", mux, path, path, root)
	sum := page(t, "go.sum") + strings.Join(regexp.MustCompile("(?m)^"+router+" .*\n").FindAllString(page(t, "example/go.sum"), -1), "")
	dir := t.TempDir()
	sources["go.mod"], sources["go.sum"] = mod, sum
	for name, text := range sources {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary = filepath.Join(dir, "visits.exe") // Windows wants its name
	build := exec.CommandContext(t.Context(), "go", "build", "-mod=readonly", "-o", binary, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "PWD="+dir)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// program is the README's program in a process of its own.
type program struct {
	address string
	log     *storetest.LogBuffer
	stop    func()
}

func (p *program) url() *url.URL { return &url.URL{Scheme: "http", Host: p.address, Path: "/"} }

// logs waits until the program has logged an error.
func (p *program) logs(t *testing.T, err error) {
	t.Helper()
	storetest.Eventually(t, "the program logs: "+err.Error(), func() bool { return strings.Contains(p.log.String(), err.Error()) })
}

var sessionKey = strings.Repeat("2a", 16)

// runProgram starts the README's program and waits until it listens.
func runProgram(t *testing.T, binary, uri, collection string) *program {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	var log storetest.LogBuffer
	run := exec.CommandContext(t.Context(), binary)
	run.Stdout, run.Stderr = &log, &log
	run.Env = append(os.Environ(), "TEST_URI="+uri, "TEST_DATABASE="+storetest.Server(t).Database, "TEST_COLLECTION="+collection,
		"TEST_ADDRESS="+address, "SESSION_KEY="+sessionKey)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = run.Wait()
	}()
	stop := func() {
		_ = run.Process.Kill()
		<-ended
	}
	t.Cleanup(stop)
	for {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return &program{address, &log, stop}
		}
		select {
		case <-ended:
			t.Fatalf("the program ended:\n%s", log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestReadmeNames: every name of the package, of a store, of an error, and of Config's fields in the table
// exists, and the table of errors has the statuses that StatusCode returns.
func TestReadmeNames(t *testing.T) {
	t.Parallel()
	symbols := documented(t)
	storeType, configType := reflect.TypeFor[*mongostore.Store](), reflect.TypeFor[mongostore.Config]()
	isOfStore := func(name string) bool {
		_, method := storeType.MethodByName(name)
		_, field := storeType.Elem().FieldByName(name)
		return method || field
	}
	text := regexp.MustCompile("(?m)^-.*$").ReplaceAllString(page(t, readme), "")
	names := regexp.MustCompile(`\b(mongostore|store|Config)\.([A-Z]\w*)`).FindAllStringSubmatch(text, -1)
	for _, m := range names {
		_, field := configType.FieldByName(m[2])
		if m[1] == "mongostore" && !symbols[m[2]] || m[1] == "store" && !isOfStore(m[2]) || m[1] == "Config" && !field {
			t.Errorf("there is no %s", m[0])
		}
	}
	if len(names) < 20 {
		t.Error("the test has missed most names")
	}

	rows := regexp.MustCompile("(?m)^\\| `(Err\\w+)` \\| (\\d+) \\|").FindAllStringSubmatch(text, -1)
	for _, row := range rows {
		if err := sentinels[row[1]]; err == nil || fmt.Sprint(mongostore.StatusCode(err)) != row[2] {
			t.Errorf("%s has the status %d, listed %s", row[1], mongostore.StatusCode(err), row[2])
		}
	}
	if len(rows) != 5 {
		t.Errorf("%d errors are listed", len(rows))
	}

	_, table, _ := strings.Cut(text, "\n## Settings\n")
	table, _, _ = strings.Cut(table, "\n## ")
	settings := regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|").FindAllStringSubmatch(table, -1)
	for _, row := range settings {
		for _, span := range codeSpan.FindAllString(row[1], -1) {
			if _, ok := configType.FieldByName(strings.Trim(span, "`")); !ok {
				t.Errorf("Config has no %s", span)
			}
		}
	}
	if len(settings) != 8 {
		t.Errorf("%d settings are listed", len(settings))
	}

	for _, block := range blocksOf(t, readme, "diff") {
		block = regexp.MustCompile("(?m)^(?:-.*\n|[ +])").ReplaceAllString(block, "")
		ast.Inspect(parseBlock(t, block), func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			kind, ok := literal.Type.(*ast.SelectorExpr)
			if !ok || fmt.Sprint(kind.X, ".", kind.Sel) != "mongostore.Config" {
				return true
			}
			for _, element := range literal.Elts {
				pair, ok := element.(*ast.KeyValueExpr)
				if _, field := configType.FieldByName(fmt.Sprint(pair.Key)); !ok || !field {
					t.Errorf("Config has no field for %v", element)
				}
			}
			return true
		})
	}
}

// sentinels are the errors to test for, by name.
var sentinels = map[string]error{
	"ErrGone": mongostore.ErrGone, "ErrConflict": mongostore.ErrConflict, "ErrNotFound": mongostore.ErrNotFound,
	"ErrTooLarge": mongostore.ErrTooLarge, "ErrCorrupt": mongostore.ErrCorrupt, "ErrUnavailable": mongostore.ErrUnavailable,
}

// TestReadmeQueries: the README's queries find Ada's live session, count all live sessions, and log
// Ada out.
func TestReadmeQueries(t *testing.T) {
	t.Parallel()
	blocks := blocksOf(t, readme, "js")
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of queries", len(blocks))
	}
	queries := regexp.MustCompile(`(?m)^db\.sessions\.(\w+)\((.*)\) +// `).FindAllStringSubmatch(blocks[0], -1)
	if len(queries) != 3 || strings.Count(blocks[0], "\n") != 3 {
		t.Fatalf("%d queries", len(queries))
	}
	f := storetest.Setup(t)
	for _, user := range []string{"Ada", "Bob"} {
		b := f.Browser().LoginAs(user)
		if _, err := b.Renew(b.Load()); err != nil { // leaves a tombstone
			t.Fatal(err)
		}
	}
	want := []int64{1, 2, 1}
	for i, query := range queries {
		filter := filterOf(t, query[2])
		var got int64
		var err error
		switch query[1] {
		case "find", "countDocuments":
			got, err = f.Coll.CountDocuments(t.Context(), filter)
		case "deleteMany":
			res, errDelete := f.Coll.DeleteMany(t.Context(), filter)
			if err = errDelete; err == nil {
				got = res.DeletedCount
			}
		default:
			t.Fatalf("no such query: %s", query[1])
		}
		if got != want[i] || err != nil {
			t.Errorf("%s finds %d (error %v), want %d", query[0], got, err, want[i])
		}
	}
}

// filterOf reads a filter as mongosh does.
func filterOf(t *testing.T, text string) (filter bson.D) {
	t.Helper()
	text = regexp.MustCompile(`([{,] *)(\$?\w+):`).ReplaceAllString(text, `$1"$2":`)
	text = strings.ReplaceAll(text, "new Date()", fmt.Sprintf(`{"$date": %q}`, time.Now().UTC().Format(time.RFC3339Nano)))
	if err := bson.UnmarshalExtJSON([]byte(text), false, &filter); err != nil {
		t.Fatal(text, err)
	}
	return filter
}

// TestReadmeCost: the README's figures are those of docs/benchmarks.md.
func TestReadmeCost(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(page(t, "docs/benchmarks.md"), "\n| one browser | ")
	table, _, _ = strings.Cut(table, "\n\n")
	figures := regexp.MustCompile(`(\d+) µs`).FindAllStringSubmatch(page(t, readme), -1)
	rows := []string{"8 values, load and unchanged save", "8 values, load and one changed key"}
	if len(figures) != len(rows) {
		t.Fatalf("%d figures in the README", len(figures))
	}
	for i, row := range rows {
		_, line, ok := strings.Cut(table, "\n| "+row+" | ")
		line, _, _ = strings.Cut(line, " |\n")
		cells := strings.Split(strings.TrimSuffix(line, " |"), " | ")
		if !ok || len(cells) != 7 {
			t.Fatalf("no row %q", row)
		}
		// The last one is the CPU above the driver's.
		if got, want := figures[i][1], cells[6]; got != want {
			t.Errorf("%s: %s µs in the README, measured %s", row, got, want)
		}
	}
}

// parseBlock parses a block: a whole file, or imports and statements.
func parseBlock(t *testing.T, block string) *ast.File {
	t.Helper()
	if !strings.HasPrefix(block, "package ") {
		imports := regexp.MustCompile("(?m)^import .*\n").FindAllString(block, -1)
		for _, line := range imports {
			block = strings.Replace(block, line, "", 1)
		}
		block = "package p\n" + strings.Join(imports, "") + "func _() error {\n" + block + "}\n"
	}
	file, err := parser.ParseFile(token.NewFileSet(), readme, block, 0)
	if err != nil {
		t.Fatalf("%v\n%s", err, block)
	}
	return file
}
