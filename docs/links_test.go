package docs_test

import (
	"fmt"
	"go/ast"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/mongostore/mongostore/internal/storetest"
)

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
	storetest.NeedsRepository(t)
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
	for _, file := range storetest.SourceFiles(t, ".", true) {
		for _, decl := range file.Decls {
			if d, ok := decl.(*ast.FuncDecl); ok {
				if example, ok := strings.CutPrefix(d.Name.Name, "Example"); ok {
					all[exampleAnchor(example)] = true
				}
			}
		}
	}
	for _, file := range storetest.SourceFiles(t, ".", false) {
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() {
					all[methodName(d)] = true
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						all[spec.Name.Name] = true
					case *ast.ValueSpec:
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

// methodName returns a function's name, behind its receiver's type if it is a method.
func methodName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	receiver := d.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	return fmt.Sprint(receiver) + "." + d.Name.Name
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
