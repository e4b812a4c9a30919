package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// Line is a line of the cart. In the database it is a document:
//
//	"cart:sencha": {_type: "line", _value: {quantity: 2, added: ISODate("...")}}
//
// Each line has a key of its own in the session: the store merges by key what concurrent
// requests change.
type Line struct {
	Quantity int       `bson:"quantity"`
	Added    time.Time `bson:"added"`
}

const (
	cartPrefix  = "cart:" // and the ID of a tea: Line
	maxQuantity = 99
)

// addToCart adds a pack. It depends on how many there are, so it needs change: with Save, two
// windows that add the same tea concurrently could add one pack.
func (s *shop) addToCart(w http.ResponseWriter, r *http.Request) error {
	tea, ok := findTea(mux.Vars(r)["tea"])
	if !ok {
		s.notFound(w, r)
		return nil
	}
	_, err := s.change(w, r, func(session *sessions.Session) {
		line, _ := mongostore.Value[Line](session, cartPrefix+tea.ID)
		if line.Quantity == maxQuantity {
			session.AddFlash(fmt.Sprintf("There are already %d × %s in your cart.", maxQuantity, tea.Name))
			return
		}
		setLine(session, tea, line.Quantity+1)
		session.AddFlash(tea.Name + " is in your cart.")
	})
	if err != nil {
		return err
	}
	redirect(w, r, "/")
	return nil
}

// setQuantity sets how many packs there are. It does not save: the middleware does.
func (s *shop) setQuantity(w http.ResponseWriter, r *http.Request) error {
	tea, ok := findTea(mux.Vars(r)["tea"])
	if !ok {
		s.notFound(w, r)
		return nil
	}
	quantity, err := strconv.Atoi(strings.TrimSpace(r.PostFormValue("quantity")))
	session, _ := s.store.Get(r, sessionName)
	switch {
	case err != nil || quantity < 0 || quantity > maxQuantity:
		session.AddFlash(fmt.Sprintf("Please choose a quantity from 0 to %d.", maxQuantity))
	case quantity == 0:
		setLine(session, tea, 0)
		session.AddFlash(tea.Name + " is no longer in your cart.")
	default:
		setLine(session, tea, quantity)
		session.AddFlash(fmt.Sprintf("There are now %d × %s in your cart.", quantity, tea.Name))
	}
	redirect(w, r, "/")
	return nil
}

func (s *shop) removeFromCart(w http.ResponseWriter, r *http.Request) error {
	tea, ok := findTea(mux.Vars(r)["tea"])
	if !ok {
		s.notFound(w, r)
		return nil
	}
	session, _ := s.store.Get(r, sessionName)
	setLine(session, tea, 0)
	session.AddFlash(tea.Name + " is no longer in your cart.")
	redirect(w, r, "/")
	return nil
}

func setLine(session *sessions.Session, tea tea, quantity int) {
	key := cartPrefix + tea.ID
	if quantity == 0 {
		delete(session.Values, key)
		return
	}
	line, ok := mongostore.Value[Line](session, key)
	if !ok {
		line.Added = now()
	}
	line.Quantity = quantity
	session.Values[key] = line
}

// now returns the time as MongoDB keeps it: in UTC, in whole milliseconds.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// cartLine is a line of the cart as the page shows it.
type cartLine struct {
	Tea      tea
	Quantity int
	Price    int // cents
}

// cartOf returns the cart's lines, in the order of the shop's list.
func cartOf(session *sessions.Session) (lines []cartLine, total int) {
	for _, tea := range teas {
		if line, ok := mongostore.Value[Line](session, cartPrefix+tea.ID); ok {
			price := line.Quantity * tea.Price
			lines = append(lines, cartLine{Tea: tea, Quantity: line.Quantity, Price: price})
			total += price
		}
	}
	return lines, total
}
