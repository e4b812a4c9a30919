package frameworks

import (
	"fmt"
	"net/http"

	"github.com/labstack/echo-contrib/session"
	"github.com/labstack/echo/v4"

	"github.com/mongostore/mongostore"
)

func echo4Server(store *mongostore.Store) *echo.Echo {
	e := echo.New()
	e.Use(session.Middleware(store))
	e.POST("/logout", echo4Logout)

	pages := e.Group("", echo.WrapMiddleware(store.Middleware(sessionName)))
	pages.GET("/", echo4Home)
	pages.POST("/login", echo4Login(store))
	return e
}

func echo4Login(store *mongostore.Store) echo.HandlerFunc {
	return func(c echo.Context) error {
		s, _ := session.Get(sessionName, c)
		s.Values["user"] = c.FormValue("name") // after you have checked the password
		if err := store.Renew(c.Request(), c.Response(), s); err != nil {
			return echo.NewHTTPError(mongostore.StatusCode(err), "please try again")
		}
		return c.Redirect(http.StatusSeeOther, "/")
	}
}

func echo4Home(c echo.Context) error {
	s, _ := session.Get(sessionName, c)
	if user, ok := mongostore.Value[string](s, "user"); ok {
		return c.String(http.StatusOK, fmt.Sprintf("Hello, %q", user))
	}
	return c.String(http.StatusOK, "Please sign in")
}

func echo4Logout(c echo.Context) error {
	s, _ := session.Get(sessionName, c)
	s.Options.MaxAge = -1
	if err := s.Save(c.Request(), c.Response()); err != nil {
		return echo.NewHTTPError(mongostore.StatusCode(err), "please try again")
	}
	return c.Redirect(http.StatusSeeOther, "/")
}
