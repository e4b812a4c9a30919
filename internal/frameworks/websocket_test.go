package frameworks

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/gorilla/mux"
	gorilla "github.com/gorilla/websocket"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/ginstore"
)

// What leaves a handler in other ways than by one Write, behind the middleware.

// upgrades accept a web socket, send one message and run a function before they close it.
var upgrades = []struct {
	name   string
	accept func(http.ResponseWriter, *http.Request, func())
}{
	{"gorilla/websocket", func(w http.ResponseWriter, r *http.Request, after func()) {
		upgrader := gorilla.Upgrader{}
		conn, err := upgrader.Upgrade(w, r, w.Header()) // which the middleware puts the cookie into
		if err != nil {
			return
		}
		defer conn.Close()
		after()
		_ = conn.WriteMessage(gorilla.TextMessage, []byte("hello"))
	}},
	{"coder/websocket", func(w http.ResponseWriter, r *http.Request, after func()) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		after()
		_ = conn.Write(r.Context(), websocket.MessageText, []byte("hello"))
	}},
}

// routers serve a handler at /, behind the middleware.
var routers = []struct {
	name string
	open func(*mongostore.Store, http.HandlerFunc) http.Handler
}{
	{"mux", func(store *mongostore.Store, handler http.HandlerFunc) http.Handler {
		r := mux.NewRouter()
		r.Use(store.Middleware(sessionName))
		r.HandleFunc("/", handler)
		return r
	}},
	{"chi", func(store *mongostore.Store, handler http.HandlerFunc) http.Handler {
		r := chi.NewRouter()
		r.Use(store.Middleware(sessionName))
		r.HandleFunc("/", handler)
		return r
	}},
	{"gin", func(store *mongostore.Store, handler http.HandlerFunc) http.Handler {
		r := gin.New()
		r.Use(ginstore.New(store).Middleware(sessionName))
		r.GET("/", gin.WrapF(handler))
		return r
	}},
}

// dial opens a web socket with the browser's cookies, and returns the response to the upgrade and
// the first message.
func (b *browser) dial() (*http.Response, string, error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, b.base, &websocket.DialOptions{HTTPClient: &http.Client{Transport: b.client.Transport, Jar: b.client.Jar}})
	if err != nil {
		return res, "", err
	}
	defer func() { _ = conn.CloseNow() }()
	_, message, err := conn.Read(ctx)
	return res, string(message), err
}

// The session is saved before the connection is handed over, with the cookie in the response, and
// not after it.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	for _, upgrade := range upgrades {
		for _, router := range routers {
			t.Run(upgrade.name+" "+router.name, func(t *testing.T) {
				t.Parallel()
				f := setup(t)
				returned := make(chan struct{}, 1)
				b := newBrowser(t, serve(t, router.open(f.store, func(w http.ResponseWriter, r *http.Request) {
					defer func() { returned <- struct{}{} }()
					session, _ := f.store.Get(r, sessionName)
					session.Values["sockets"] = 1
					upgrade.accept(w, r, func() {
						f.wantDocuments(1)
						session.Values["sockets"] = 2
					})
				})))
				res, message, err := b.dial()
				if err != nil || message != "hello" || res.StatusCode != http.StatusSwitchingProtocols {
					t.Fatalf("message %q, error %v", message, err)
				}
				if len(res.Cookies()) != 1 || b.cookie(sessionName) == "" {
					t.Errorf("the upgrade sets the cookies %v", res.Cookies())
				}
				<-returned
				if n := f.wantDocuments(1)[0].Lookup("values", "sockets").AsInt64(); n != 1 {
					t.Errorf("the database has %d sockets", n)
				}
			})
		}
	}
}

// Without the save there is no web socket.
func TestWebSocketOfALateSession(t *testing.T) {
	t.Parallel()
	for _, upgrade := range upgrades {
		for _, router := range routers {
			t.Run(upgrade.name+" "+router.name, func(t *testing.T) {
				t.Parallel()
				f := setup(t)
				g := newGate()
				b := newBrowser(t, serve(t, chiRouter(f.store)))
				sockets := b.at(serve(t, router.open(f.store, func(w http.ResponseWriter, r *http.Request) {
					session, _ := f.store.Get(r, sessionName)
					session.Values["sockets"] = 1
					g.pause()
					upgrade.accept(w, r, func() { t.Error("the connection is handed over") })
				})))
				b.login("Ada")
				type result struct {
					res *http.Response
					err error
				}
				late := make(chan result, 1)
				go func() {
					res, _, err := sockets.dial()
					late <- result{res, err}
				}()
				<-g.come
				b.post("/logout").wants(http.StatusSeeOther)
				close(g.open)
				got := <-late
				if got.err == nil || got.res == nil || got.res.StatusCode != http.StatusUnauthorized || len(got.res.Cookies()) > 0 {
					t.Errorf("response %+v, error %v", got.res, got.err)
				}
				if got.res != nil && got.res.Header.Get("Upgrade")+got.res.Header.Get("Sec-Websocket-Accept") != "" {
					t.Errorf("the response has the header %v", got.res.Header)
				}
				f.wantDocuments(0)
			})
		}
	}
}

// Server-sent events arrive one by one, after the cookie, with http.ResponseController.
func TestServerSentEvents(t *testing.T) {
	t.Parallel()
	for _, router := range routers {
		t.Run(router.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			next := make(chan struct{})
			b := newBrowser(t, serve(t, router.open(f.store, func(w http.ResponseWriter, r *http.Request) {
				session, _ := f.store.Get(r, sessionName)
				session.Values["streams"] = 1
				w.Header().Set("Content-Type", "text/event-stream")
				controller := http.NewResponseController(w)
				for i := range 3 {
					if err := controller.Flush(); err != nil {
						t.Error(err)
					}
					<-next
					fmt.Fprintf(w, "data: %d\n\n", i)
				}
			})))
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.base, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := b.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if len(res.Cookies()) != 1 {
				t.Errorf("cookies %v", res.Cookies())
			}
			f.wantDocuments(1)
			events := bufio.NewScanner(res.Body)
			for i := range 3 {
				next <- struct{}{}
				if !events.Scan() || events.Text() != fmt.Sprintf("data: %d", i) || !events.Scan() {
					t.Errorf("event %q, error %v", events.Text(), events.Err())
				}
			}
		})
	}
}
