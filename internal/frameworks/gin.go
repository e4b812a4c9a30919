package frameworks

import (
	"net/http"

	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/ginstore"
)

func ginEngine(mongo *mongostore.Store) *gin.Engine {
	store := ginstore.New(mongo)
	r := gin.New()
	r.Use(gin.Recovery(), ginsessions.Sessions(sessionName, store))
	r.POST("/logout", ginLogout)

	pages := r.Group("/", store.Middleware(sessionName))
	pages.GET("/", ginHome)
	pages.POST("/login", ginLogin(store))
	return r
}

// ginLogin gets the session from the store, where it can be renewed. Default returns the same
// one.
func ginLogin(store ginstore.Store) gin.HandlerFunc {
	return func(c *gin.Context) {
		session, _ := store.Get(c.Request, sessionName)
		session.Values["user"] = c.PostForm("name") // after you have checked the password
		if err := store.Renew(c.Request, c.Writer, session); err != nil {
			c.String(mongostore.StatusCode(err), "please try again")
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

// ginLogout is outside of the middleware, so it works while MongoDB is unavailable. It sets MaxAge
// only: ginstore takes the cookie's other options from the store.
func ginLogout(c *gin.Context) {
	session := ginsessions.Default(c)
	session.Options(ginsessions.Options{MaxAge: -1})
	if err := session.Save(); err != nil {
		c.String(mongostore.StatusCode(err), "please try again")
		return
	}
	c.Redirect(http.StatusSeeOther, "/")
}
