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
	router.Use(sessions.Sessions("session", store))
	router.POST("/login", func(c *gin.Context) {
		session, _ := store.Get(c.Request, "session") // Renew returns its error
		session.Values["user"] = "Ada"
		if err := store.Renew(c.Request, c.Writer, session); err != nil {
			c.String(http.StatusServiceUnavailable, "please try again")
			return
		}
		c.String(http.StatusOK, "welcome")
	})
	router.GET("/", func(c *gin.Context) {
		c.String(http.StatusOK, "hello %v", sessions.Default(c).Get("user"))
	})
	router.POST("/logout", func(c *gin.Context) {
		session := sessions.Default(c)
		session.Options(sessions.Options{MaxAge: -1})
		if err := session.Save(); err != nil {
			c.String(http.StatusServiceUnavailable, "please try again")
			return
		}
		c.String(http.StatusOK, "goodbye")
	})

	// A program calls router.Run here. This is a browser instead.
	var cookies []*http.Cookie
	for _, page := range []string{"POST /login", "GET /", "POST /logout", "GET /"} {
		var method, path string
		_, _ = fmt.Sscan(page, &method, &path)
		r := httptest.NewRequestWithContext(ctx, method, path, nil)
		for _, cookie := range cookies {
			r.AddCookie(cookie)
		}
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		if method == http.MethodPost {
			cookies = w.Result().Cookies()
		}
		fmt.Println(page, "->", w.Body)
	}

	// Output:
	// POST /login -> welcome
	// GET / -> hello Ada
	// POST /logout -> goodbye
	// GET / -> hello <nil>
}
