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

	pages := e.Group("", echo4Visit(store))
	pages.GET("/", echo4Home)
	pages.POST("/login", echo4Login(store))
	return e
}

func echo4Visit(store *mongostore.Store) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if err := visit(store, c.Response(), c.Request(), sessionName); err != nil {
				return echo.NewHTTPError(status(err), "please try again")
			}
			return next(c)
		}
	}
}

func echo4Login(store *mongostore.Store) echo.HandlerFunc {
	return func(c echo.Context) error {
		s, _ := session.Get(sessionName, c)    // its error: see visit
		s.Values["user"] = c.FormValue("name") // once the password is checked
		if err := store.Renew(c.Request(), c.Response(), s); err != nil {
			return echo.NewHTTPError(status(err), "please try again")
		}
		return c.Redirect(http.StatusSeeOther, "/")
	}
}

func echo4Home(c echo.Context) error {
	s, _ := session.Get(sessionName, c)
	if user, ok := s.Values["user"].(string); ok {
		return c.String(http.StatusOK, fmt.Sprintf("Hello, %q", user))
	}
	return c.String(http.StatusOK, "Please sign in")
}

func echo4Logout(c echo.Context) error {
	s, _ := session.Get(sessionName, c)
	s.Options.MaxAge = -1
	if err := s.Save(c.Request(), c.Response()); err != nil {
		return echo.NewHTTPError(status(err), "please try again")
	}
	return c.Redirect(http.StatusSeeOther, "/")
}
