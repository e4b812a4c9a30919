package frameworks

import (
	"net/http"

	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/ginstore"
)

func ginEngine(store *mongostore.Store) *gin.Engine {
	r := gin.New()
	r.Use(gin.Recovery(), ginsessions.Sessions(sessionName, ginstore.New(store)))
	r.POST("/logout", ginLogout)

	pages := r.Group("/", ginVisit(store))
	pages.GET("/", ginHome)
	pages.POST("/login", ginLogin(store))
	return r
}

// ginVisit does what gin-contrib does not. That only logs that a session could not be loaded,
// and its Save does nothing if nothing was set, so sessions would expire while they are in use.
func ginVisit(store *mongostore.Store) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := visit(store, c.Writer, c.Request, sessionName); err != nil {
			c.AbortWithStatus(mongostore.StatusCode(err))
		}
	}
}

// ginLogin gets the session from the store, where it can be renewed. Default returns the same
// one.
func ginLogin(store *mongostore.Store) gin.HandlerFunc {
	return func(c *gin.Context) {
		session, _ := store.Get(c.Request, sessionName) // visit has handled its error
		session.Values["user"] = c.PostForm("name")     // after you have checked the password
		if err := store.Renew(c.Request, c.Writer, session); err != nil {
			c.AbortWithStatus(mongostore.StatusCode(err))
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

// ginLogout sets MaxAge only: ginstore takes the cookie's other options from the store. Clear
// is no logout: it leaves an empty session under the same ID.
func ginLogout(c *gin.Context) {
	session := ginsessions.Default(c)
	session.Options(ginsessions.Options{MaxAge: -1})
	if err := session.Save(); err != nil {
		c.AbortWithStatus(mongostore.StatusCode(err))
		return
	}
	c.Redirect(http.StatusSeeOther, "/")
}
