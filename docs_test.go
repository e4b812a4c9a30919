package mongostore_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// The pages say what is so: links lead somewhere, and the lists are those of the code.

const operations = "docs/operations.md"

func page(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pages returns the names of the repository's Markdown files, with slashes.
func pages(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules" || d.Name() == "testdata"):
			return filepath.SkipDir
		case path.Ext(file) == ".md":
			files = append(files, filepath.ToSlash(file))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var (
	codeBlock  = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	codeSpan   = regexp.MustCompile("`[^`\n]*`")
	inlineLink = regexp.MustCompile(`(?s)\[[^]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)`)
	namedLink  = regexp.MustCompile(`(?m)^ *\[[^]^]+\]:\s*(\S+)`)
	htmlLink   = regexp.MustCompile(`(?:href|src|srcset)="([^"]+)"`)
	heading    = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *#*$`)
	htmlAnchor = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
)

// links returns the targets of a page's links.
func links(text string) (targets []string) {
	text = codeBlock.ReplaceAllString(text, "")
	text = codeSpan.ReplaceAllString(text, "code")
	for _, pattern := range []*regexp.Regexp{inlineLink, namedLink, htmlLink} {
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			targets = append(targets, m[1])
		}
	}
	return targets
}

// anchors returns the fragments that a page's headings can be reached by on GitHub.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	text = codeBlock.ReplaceAllString(text, "")
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		title := inlineLink.ReplaceAllStringFunc(m[1], func(link string) string {
			name, _, _ := strings.Cut(link[1:], "]")
			return name
		})
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		unique := slug
		for n := 1; all[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", slug, n)
		}
		all[unique] = true
	}
	for _, m := range htmlAnchor.FindAllStringSubmatch(text, -1) {
		all[m[1]] = true
	}
	return all
}

// TestLinks: those between the pages, to files of the repository, and into the package's
// documentation.
func TestLinks(t *testing.T) {
	t.Parallel()
	const documentation = "https://pkg.go.dev/github.com/mongostore/mongostore"
	symbols := documented(t)
	files, local := pages(t), 0
	for _, file := range files {
		for _, target := range links(page(t, file)) {
			u, err := url.Parse(target)
			if err != nil {
				t.Errorf("%s: %s: %v", file, target, err)
				continue
			}
			if fragment, ok := strings.CutPrefix(target, documentation+"#"); ok && !symbols[fragment] {
				t.Errorf("%s: %s: there is no such symbol or example", file, target)
			}
			if u.IsAbs() || u.Host != "" {
				continue
			}
			local++
			to := file
			if u.Path != "" {
				to = path.Join(path.Dir(file), u.Path)
			}
			if _, err := os.Stat(to); err != nil || strings.HasPrefix(to, "../") {
				t.Errorf("%s: %s: there is no %s in the repository", file, target, to)
				continue
			}
			if u.Fragment != "" && path.Ext(to) == ".md" && !anchors(page(t, to))[u.Fragment] {
				t.Errorf("%s: %s: there is no such heading in %s", file, target, to)
			}
		}
	}
	t.Logf("%d pages, %d links within the repository", len(files), local)
	if local < 20 {
		t.Error("the test has missed most links")
	}
}

// documented returns the fragments of the package's page on pkg.go.dev.
func documented(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{"example-package": true}
	for _, file := range sources(t, "*.go") {
		isTest := strings.HasSuffix(file.name, "_test.go")
		for _, decl := range file.syntax.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if example, ok := strings.CutPrefix(d.Name.Name, "Example"); ok && isTest {
					all[exampleAnchor(example)] = true
				}
				if isTest || !d.Name.IsExported() {
					continue
				}
				if d.Recv == nil {
					all[d.Name.Name] = true
				} else {
					recv := d.Recv.List[0].Type
					if star, ok := recv.(*ast.StarExpr); ok {
						recv = star.X
					}
					all[fmt.Sprint(recv)+"."+d.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if spec, ok := spec.(*ast.TypeSpec); ok && !isTest {
						all[spec.Name.Name] = true
					}
					if spec, ok := spec.(*ast.ValueSpec); ok && !isTest {
						for _, n := range spec.Names {
							all[n.Name] = true
						}
					}
				}
			}
		}
	}
	return all
}

// exampleAnchor gives the fragment of an example's name: Store_Save_logout is
// example-Store.Save-Logout, and _metrics is example-package-Metrics.
func exampleAnchor(name string) string {
	parts := strings.Split(name, "_")
	last := parts[len(parts)-1]
	suffix := ""
	if last != "" && unicode.IsLower(rune(last[0])) {
		suffix = "-" + strings.ToUpper(last[:1]) + last[1:]
		parts = parts[:len(parts)-1]
	}
	symbol := strings.Join(parts, ".")
	if symbol == "" {
		symbol = "package"
	}
	return "example-" + symbol + suffix
}

type source struct {
	name   string
	syntax *ast.File
}

// sources parses files of this folder.
func sources(t *testing.T, pattern string) (files []source) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v", pattern, err)
	}
	for _, name := range names {
		syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, source{name, syntax})
	}
	return files
}

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
	for _, file := range sources(t, "*.go") {
		if strings.HasSuffix(file.name, "_test.go") {
			continue
		}
		for _, decl := range file.syntax.Decls {
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
					t.Errorf("%s: %s logs by %s, which is no warning", file.name, function.Name, method.Sel.Name)
					return true
				}
				var attributes []string
				for i := 1; i < len(args); i += 2 {
					attributes = append(attributes, text(args[i]))
				}
				messages := literals(function, args[0])
				if len(messages) == 0 {
					t.Errorf("%s: %s logs a message that the test cannot find out", file.name, function.Name)
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

// TestStepsAreListed: the page for contributors names each step of the gate.
func TestStepsAreListed(t *testing.T) {
	t.Parallel()
	m := regexp.MustCompile(`all_steps=\(([a-z ]+)\)`).FindStringSubmatch(page(t, ".ci/run"))
	if m == nil {
		t.Fatal("no steps in .ci/run")
	}
	contributing := page(t, ".github/CONTRIBUTING.md")
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\|").FindAllStringSubmatch(contributing, -1) {
		listed = append(listed, row[1])
	}
	if steps := strings.Fields(m[1]); !slices.Equal(steps, listed) {
		t.Errorf("steps: %q, listed: %q", steps, listed)
	}
}

// TestWorkflowRunsTheGate: all of it, and the tests on the oldest Go that go.mod allows.
func TestWorkflowRunsTheGate(t *testing.T) {
	t.Parallel()
	workflow := page(t, ".github/workflows/ci.yml")
	if !strings.Contains(workflow, "- run: bash .ci/run\n") {
		t.Error("the workflow does not run the gate")
	}
	m := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(page(t, "go.mod"))
	if m == nil || !strings.Contains(workflow, fmt.Sprintf("go: [%q,", m[1])) {
		t.Errorf("the workflow does not run the oldest Go, %q", m)
	}
	for _, server := range regexp.MustCompile(`mongodb: \[(.*)\]`).FindAllStringSubmatch(workflow, -1) {
		for version := range strings.SplitSeq(server[1], ", ") {
			if listed := regexp.MustCompile(`(?m)^\| MongoDB .*\b` + strings.Trim(version, `"`) + `\b.* \| in the workflow`); !listed.MatchString(page(t, readme)) {
				t.Errorf("MongoDB %s is tested, and not in the README", version)
			}
		}
	}
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
		{"`Save`, `Persist` of a change", func() {}, nil},
		{"`Save`, `Persist` of an unchanged session ", func() {}, nil},
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
		{"`Sessions` ", func() {
			for _, err := range f.Store.Sessions(t.Context(), "ada") {
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
			cfg.Cleanup = mongostore.TTLIndex
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
	}
	calls[3].do = func() {
		session := b.Load()
		f.Log.Reset()
		_, err := b.Save(session)
		check(err)
		check(f.Store.Persist(t.Context(), session))
	}

	table, _, _ := strings.Cut(page(t, operations), "\n## Rights")
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
		c.OwnerKey, c.Cleanup = "user", mongostore.TTLIndex
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
				call += fmt.Sprintf(", { expireAfterSeconds: %d }", *index.Expire)
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
