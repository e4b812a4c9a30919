package frameworks

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gin-contrib/sessions/mongo/mongodriver"
	"github.com/gin-gonic/gin"
	_ "github.com/laziness-coders/mongostore" // of the page's code
	mongo1 "go.mongodb.org/mongo-driver/mongo"
	options1 "go.mongodb.org/mongo-driver/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
)

// The diffs of the README and of docs/migrating.md, from the stores that people come from. That
// their sessions are taken over is tested in internal/bench, and for gin-contrib's here.

var diffOther = map[byte]*regexp.Regexp{
	'-': regexp.MustCompile(`(?m)^(?:\+.*\n|[ -])`),
	'+': regexp.MustCompile(`(?m)^(?:-.*\n|[ +])`),
}

// Both sides of each diff are code that compiles, with nothing but the variables that it has no
// declaration for.
func TestDiffs(t *testing.T) {
	t.Parallel()
	var blocks []string
	for _, block := range codeBlock.FindAllStringSubmatch(read(t, "../../README.md")+read(t, "../../docs/migrating.md"), -1) {
		if block[1] == "diff" {
			blocks = append(blocks, block[2])
		}
	}
	if len(blocks) != 6 {
		t.Fatalf("%d diffs", len(blocks))
	}
	dir, packages := t.TempDir(), 0
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, block := range blocks {
		for _, side := range []byte("-+") {
			code := diffOther[side].ReplaceAllString(block, "")
			if strings.Contains(code, "kidstuff") || strings.Contains(code, "redistore") {
				continue // whose drivers are not at hand
			}
			packages++
			write(fmt.Sprintf("block%d%s/code.go", i, map[byte]string{'-': "old", '+': "new"}[side]), wrapped(code))
		}
	}
	mod := read(t, "go.mod")
	for _, folder := range []string{"../../", "../../ginstore", "../../mongotest"} {
		absolute, err := filepath.Abs(folder)
		if err != nil {
			t.Fatal(err)
		}
		mod = strings.Replace(mod, "=> "+folder+"\n", fmt.Sprintf("=> %q\n", absolute), 1)
	}
	write("go.mod", mod)
	write("go.sum", read(t, "go.sum"))
	build := exec.CommandContext(t.Context(), "go", "build", "-mod=readonly", "./...")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off", "PWD="+dir)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	t.Logf("%d packages", packages)
}

// wrapped returns a file of imports and statements.
func wrapped(code string) string {
	imports := regexp.MustCompile("(?m)^import .*\n").FindAllString(code, -1)
	for _, line := range imports {
		code = strings.Replace(code, line, "", 1)
	}
	imports = append(imports, "import \"context\"\n")
	parameters := "ctx context.Context, uri string, maxAge int, keys [][]byte, key []byte"
	if strings.Contains(code, "mongodriver.") {
		imports = append(imports, "import \"github.com/gin-gonic/gin\"\n", "import \"go.mongodb.org/mongo-driver/mongo\"\n")
		parameters += ", client *mongo.Client, router *gin.Engine"
	}
	slices.Sort(imports)
	return "package code\n\n" + strings.Join(imports, "") + "\n" +
		"func _(" + parameters + ") error {\n" + code + "\t_ = store\n\treturn nil\n}\n"
}

// Somebody who signed in before the store was changed, by the page's diff, is still signed in.
func TestGinMigrates(t *testing.T) {
	t.Parallel()
	f := setup(t)
	client1, err := mongo1.Connect(t.Context(), options1.Client().ApplyURI(testURI))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client1.Disconnect(context.WithoutCancel(t.Context())) })
	openOld := func() ginsessions.Store {
		return mongodriver.NewStore(client1.Database(testData.Name()).Collection(f.coll.Name()+"_old"), 3600, false, signingKey)
	}
	before := gin.New()
	before.Use(ginsessions.Sessions(sessionName, openOld()))
	before.POST("/login", func(c *gin.Context) {
		session := ginsessions.Default(c)
		session.Set("user", c.PostForm("name"))
		if err := session.Save(); err != nil {
			_ = c.AbortWithError(http.StatusInternalServerError, err)
			return
		}
		c.Redirect(http.StatusSeeOther, "/")
	})
	b := newBrowser(t, serve(t, before))
	b.login("Ada")
	f.wantDocuments(0)

	client, err := mongo.Connect(options.Client().ApplyURI(testURI))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	store, err := mongostore.Open(t.Context(), mongostore.Config{
		Client: client, Database: testData.Name(), Collection: f.coll.Name(), MigrateFrom: openOld(), Cleanup: mongostore.CleanupOff,
	}, signingKey)
	if err != nil {
		t.Fatal(err)
	}
	f.closeAtEnd(store)
	store.MaxAge(3600)
	b = b.at(serve(t, ginEngine(store)))
	b.signedIn("Ada")
	f.wantDocuments(1) // saved by the middleware, and no more in the old store
	old, err := testData.Collection(f.coll.Name()+"_old").CountDocuments(t.Context(), map[string]any{})
	if err != nil || old != 0 {
		t.Errorf("%d sessions are left in the old store: %v", old, err)
	}
	b.signedIn("Ada")
	b.post("/logout").wants(http.StatusSeeOther)
	f.wantDocuments(0)
}
