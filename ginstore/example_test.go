package ginstore_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/ginstore"
)

func Example() {
	ctx := context.Background()
	mongo, err := mongostore.Open(ctx, mongostore.Config{
		URI:      os.Getenv("MONGODB_URI"),
		Database: "ginstore_example",
	}, []byte("replace me: 32 random bytes or more"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = mongo.Close(ctx) }()
	store := ginstore.New(mongo)

	router := gin.New()
	router.Use(gin.Recovery(), sessions.Sessions("session", store), store.Middleware("session"))
	router.POST("/login", func(c *gin.Context) {
		session, _ := store.Get(c.Request, "session")
		session.Values["user"] = "Ada" // after you have checked the password
		if err := store.Renew(c.Request, c.Writer, session); err != nil {
			c.String(mongostore.StatusCode(err), "please try again")
			return
		}
		c.String(http.StatusOK, "welcome")
	})
	router.POST("/theme", func(c *gin.Context) {
		sessions.Default(c).Set("theme", "dark")
		c.String(http.StatusOK, "changed")
	})
	router.GET("/", func(c *gin.Context) {
		session := sessions.Default(c)
		c.String(http.StatusOK, "hello %v, theme %v", session.Get("user"), session.Get("theme"))
	})
	router.POST("/logout", func(c *gin.Context) {
		sessions.Default(c).Options(sessions.Options{MaxAge: -1})
		c.String(http.StatusOK, "goodbye")
	})

	// A program calls router.Run here. This is a browser instead.
	var cookies []*http.Cookie
	for _, page := range []string{"POST /login", "POST /theme", "GET /", "POST /logout", "GET /"} {
		var method, path string
		_, _ = fmt.Sscan(page, &method, &path)
		r := httptest.NewRequestWithContext(ctx, method, path, nil)
		for _, cookie := range cookies {
			r.AddCookie(cookie)
		}
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		if set := w.Result().Cookies(); len(set) > 0 {
			cookies = set
		}
		fmt.Println(page, "->", w.Body)
	}

	// Output:
	// POST /login -> welcome
	// POST /theme -> changed
	// GET / -> hello Ada, theme dark
	// POST /logout -> goodbye
	// GET / -> hello <nil>, theme <nil>
}
