package mongostore_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// hub knows the web sockets of this process, by the keys of their sessions.
type hub struct {
	store   *mongostore.Store
	mu      sync.Mutex
	sockets map[string]map[io.Closer]bool
}

func (h *hub) add(key string, socket io.Closer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sockets[key] == nil {
		h.sockets[key] = map[io.Closer]bool{}
	}
	h.sockets[key][socket] = true
}

func (h *hub) remove(key string, socket io.Closer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sockets[key], socket)
	if len(h.sockets[key]) == 0 {
		delete(h.sockets, key)
	}
}

// end closes the sockets of a session.
func (h *hub) end(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for socket := range h.sockets[key] {
		_ = socket.Close()
	}
	delete(h.sockets, key)
}

// run closes the sockets of each session that ends, until ctx ends. A renewal closes them
// too: the browser connects again, with its new cookie.
func (h *hub) run(ctx context.Context) error {
	for ctx.Err() == nil {
		for event, err := range h.store.Watch(ctx) {
			if errors.Is(err, errors.ErrUnsupported) {
				return err // no replica set: check alone finds the ends
			}
			if err != nil {
				log.Print(err) // the loop is over, and begins again in a moment
				break
			}
			h.end(event.Key)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// check ends the sockets of a session that is gone. It finds what Watch has missed.
func (h *hub) check(ctx context.Context, id, key string) (alive bool) {
	_, err := h.store.Fetch(ctx, "session", id)
	if errors.Is(err, mongostore.ErrNotFound) {
		h.end(key)
		return false
	}
	return true // or MongoDB is unavailable, which signs nobody out
}

// ServeHTTP opens a web socket.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	session, err := h.store.Get(r, "session")
	if errors.Is(err, mongostore.ErrUnavailable) {
		http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
		return
	}
	if err != nil || session.IsNew {
		http.Error(w, "sign in", http.StatusUnauthorized)
		return
	}
	key, err := h.store.Key(session)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	socket, err := upgrade(w)
	if err != nil {
		return
	}
	defer socket.Close()

	// First the hub has the socket, then the session is looked at: whenever it ends, one of
	// the two finds out.
	h.add(key, socket)
	defer h.remove(key, socket)
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	id := session.ID
	go func() {
		for h.check(ctx, id, key) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Minute):
			}
		}
	}()
	h.echo(ctx, session, socket)
}

// echo sends each message back, until the socket is closed. A message is user activity, so it
// moves the session's expiry when that is due.
func (h *hub) echo(ctx context.Context, session *sessions.Session, socket io.ReadWriter) {
	message := make([]byte, 1024)
	for {
		n, err := socket.Read(message)
		if err != nil {
			return
		}
		if err := h.store.Touch(ctx, session); errors.Is(err, mongostore.ErrGone) {
			return // any other error signs nobody out
		}
		if _, err := socket.Write(message[:n]); err != nil {
			return
		}
	}
}

// upgrade stands for that of a web socket package, such as websocket.Accept of
// github.com/coder/websocket.
func upgrade(w http.ResponseWriter) (net.Conn, error) {
	conn, _, err := http.NewResponseController(w).Hijack()
	return conn, err
}

// A hub of web sockets closes those of a session as soon as its user signs out, in
// whatever process. It needs a replica set, or a sharded cluster.
func ExampleStore_Watch() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI: os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app?replicaSet=rs0"
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(context.WithoutCancel(ctx))

	sockets := &hub{store: store, sockets: map[string]map[io.Closer]bool{}}
	go func() {
		if err := sockets.run(ctx); err != nil {
			log.Print(err)
		}
	}()
	server := &http.Server{Addr: "localhost:8080", Handler: sockets, ReadHeaderTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	log.Print(server.ListenAndServe())
}
