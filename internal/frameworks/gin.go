package frameworks

import (
	"net/http"

	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"

	"github.com/mongostore/mongostore"
)

// ginStore is the store as gin-contrib/sessions wants it.
type ginStore struct{ *mongostore.Store }

func (s ginStore) Options(options ginsessions.Options) {
	s.Store.Options = options.ToGorillaOptions()
}

func ginEngine(store *mongostore.Store) *gin.Engine {
	r := gin.New()
	r.Use(gin.Recovery(), ginsessions.Sessions(sessionName, ginStore{store}))
	r.POST("/logout", ginLogout)

	pages := r.Group("/", ginVisit(store))
	pages.GET("/", ginHome)
	pages.POST("/login", ginLogin(store))
	return r
}

// ginVisit sees to what gin-contrib does not: it only logs that a session could not be
// loaded, and its Save does nothing if nothing was set, so that sessions would expire
// while they are in use.
func ginVisit(store *mongostore.Store) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := visit(store, c.Writer, c.Request, sessionName); err != nil {
			c.AbortWithStatus(status(err))
		}
	}
}

// ginLogin takes the session from the store, where it can be renewed. It is the same that
// Default gives.
func ginLogin(store *mongostore.Store) gin.HandlerFunc {
	return func(c *gin.Context) {
		session, _ := store.Get(c.Request, sessionName) // its error: see visit
		session.Values["user"] = c.PostForm("name")     // once the password is checked
		if err := store.Renew(c.Request, c.Writer, session); err != nil {
			c.AbortWithStatus(status(err))
			return
		}
		c.Redirect(http.StatusSeeOther, "/")
	}
}

func ginHome(c *gin.Context) {
	session := ginsessions.Default(c)
	if user, ok := session.Get("user").(string); ok {
		c.String(http.StatusOK, "Hello, %q", user)
	} else {
		c.String(http.StatusOK, "Please sign in")
	}
}

// ginLogout gives all the options anew, since that is what Options does. Clear is no
// logout: it leaves a session without values, under its old ID.
func ginLogout(c *gin.Context) {
	session := ginsessions.Default(c)
	session.Options(ginsessions.Options{Path: "/", MaxAge: -1, HttpOnly: true, Secure: true})
	if err := session.Save(); err != nil {
		c.AbortWithStatus(status(err))
		return
	}
	c.Redirect(http.StatusSeeOther, "/")
}
