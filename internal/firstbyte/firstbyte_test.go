package firstbyte_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mongostore/mongostore/internal/firstbyte"
)

var errBegin = errors.New("begin failed")

// ways are the ways to begin a response.
var ways = map[string]func(w http.ResponseWriter) error{
	"WriteHeader": func(w http.ResponseWriter) error { w.WriteHeader(http.StatusTeapot); return nil },
	"Write":       func(w http.ResponseWriter) error { _, err := w.Write([]byte("x")); return err },
	"WriteString": func(w http.ResponseWriter) error { _, err := io.WriteString(w, "x"); return err },
	"ReadFrom":    func(w http.ResponseWriter) error { _, err := io.Copy(w, strings.NewReader("x")); return err },
	"Flush":       func(w http.ResponseWriter) error { w.(http.Flusher).Flush(); return nil },
	"FlushError":  func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
}

func TestTheFunctionRunsOnceBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := httptest.NewRecorder()
			calls := 0
			w := firstbyte.New(rec, func() error {
				calls++
				rec.Header().Set("X-Begin", "yes")
				return nil
			})
			handler := w.ForHandler()
			if w.Started() {
				t.Error("started before anything was written")
			}
			for range 2 {
				if err := way(handler); err != nil {
					t.Error(err)
				}
			}
			if err := w.Start(); err != nil || calls != 1 || !w.Started() {
				t.Errorf("%d calls, %v", calls, err)
			}
			if rec.Result().Header.Get("X-Begin") != "yes" {
				t.Error("the header was sent before the function ran")
			}
		})
	}
}

func TestAFailureDiscardsTheResponse(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := httptest.NewRecorder()
			w := firstbyte.New(rec, func() error { return errBegin })
			err := way(w.ForHandler())
			if reports := name != "WriteHeader" && name != "Flush"; reports && !errors.Is(err, errBegin) {
				t.Errorf("error %v", err)
			}
			if rec.Body.Len() > 0 || rec.Flushed || rec.Code != http.StatusOK {
				t.Errorf("status %d, %q", rec.Code, rec.Body)
			}
			if err := w.Start(); !errors.Is(err, errBegin) {
				t.Errorf("Start: %v", err)
			}
		})
	}
}

// responses records the status codes.
type responses struct {
	http.ResponseWriter
	codes []int
}

func (r *responses) WriteHeader(code int) { r.codes = append(r.codes, code) }

func TestInformationalResponsesPass(t *testing.T) {
	t.Parallel()
	r := &responses{ResponseWriter: httptest.NewRecorder()}
	w := firstbyte.New(r, func() error { return errBegin })
	w.WriteHeader(http.StatusEarlyHints)
	if w.Started() || len(r.codes) != 1 {
		t.Errorf("started %t, %v", w.Started(), r.codes)
	}
	w.WriteHeader(http.StatusSwitchingProtocols)
	w.WriteHeader(http.StatusEarlyHints)
	if !w.Started() || len(r.codes) != 1 {
		t.Errorf("started %t, %v", w.Started(), r.codes)
	}
}

// plain has no method but those of http.ResponseWriter.
type plain struct{ http.ResponseWriter }

// hijackable can be hijacked.
type hijackable struct{ plain }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, nil }

// wrapper has what it wraps.
type wrapper struct{ plain }

func (w wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestHandlersSeeTheMethodsThatTheWriterHas(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	for _, tt := range []struct {
		name             string
		w                http.ResponseWriter
		flushes, hijacks bool
	}{
		{"neither", plain{rec}, false, false},
		{"a flusher", rec, true, false},
		{"a hijacker", hijackable{plain{rec}}, false, true},
		{"a wrapped flusher", wrapper{plain{rec}}, true, false},
		{"a wrapped hijacker", wrapper{plain{hijackable{plain{rec}}}}, false, true},
		{"both", struct {
			hijackable
			http.Flusher
		}{hijackable{plain{rec}}, rec}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			w := firstbyte.New(tt.w, func() error { calls++; return nil }).ForHandler()
			if _, ok := w.(http.Flusher); ok != tt.flushes {
				t.Errorf("Flusher: %t", ok)
			}
			hijacker, ok := w.(http.Hijacker)
			if ok != tt.hijacks {
				t.Fatalf("Hijacker: %t", ok)
			}
			if !ok {
				return
			}
			if _, _, err := hijacker.Hijack(); err != nil || calls != 1 {
				t.Errorf("Hijack: %v after %d calls", err, calls)
			}
			w = firstbyte.New(tt.w, func() error { return errBegin }).ForHandler()
			if _, _, err := w.(http.Hijacker).Hijack(); !errors.Is(err, errBegin) {
				t.Errorf("Hijack: %v", err)
			}
		})
	}
}

func TestAFlushThatIsNotSupportedBeginsNothing(t *testing.T) {
	t.Parallel()
	w := firstbyte.New(plain{httptest.NewRecorder()}, func() error { return errBegin })
	if err := http.NewResponseController(w.ForHandler()).Flush(); !errors.Is(err, http.ErrNotSupported) || w.Started() {
		t.Errorf("started %t, %v", w.Started(), err)
	}
}

func TestTheHeaderOfADiscardedResponseIsNotSent(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	w := firstbyte.New(rec, func() error { return errBegin })
	w.Header().Set("X-Before", "yes")
	w.WriteHeader(http.StatusTeapot)
	w.Header().Set("X-After", "yes")
	w.Header().Set("X-Before", "no")
	if rec.Header().Get("X-Before") != "yes" || rec.Header().Get("X-After") != "" || w.Header().Get("X-After") != "yes" {
		t.Errorf("sent %v; the handler sees %v", rec.Header(), w.Header())
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for want, respond := range map[int]func(http.ResponseWriter){
		http.StatusOK:     func(w http.ResponseWriter) { _, _ = w.Write(nil); w.WriteHeader(http.StatusTeapot) },
		http.StatusTeapot: func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot); w.WriteHeader(http.StatusOK) },
		http.StatusFound:  func(w http.ResponseWriter) { w.WriteHeader(http.StatusEarlyHints); w.WriteHeader(http.StatusFound) },
	} {
		w := firstbyte.New(&responses{ResponseWriter: httptest.NewRecorder()}, func() error { return nil })
		respond(w)
		if w.Status() != want {
			t.Errorf("status %d, want %d", w.Status(), want)
		}
	}
}

// served has the methods of net/http's writers.
type served struct {
	plain
	pushed []string
	closed chan bool
}

func (s *served) Push(target string, _ *http.PushOptions) error {
	s.pushed = append(s.pushed, target)
	return nil
}

func (s *served) CloseNotify() <-chan bool { return s.closed }

func TestPushAndCloseNotify(t *testing.T) {
	t.Parallel()
	s := &served{plain: plain{httptest.NewRecorder()}, closed: make(chan bool, 1)}
	s.closed <- true
	for _, w := range []http.ResponseWriter{s, wrapper{plain{s}}, httptest.NewRecorder()} {
		handler := firstbyte.New(w, func() error { return errBegin }).ForHandler()
		_, supported := w.(*httptest.ResponseRecorder)
		supported = !supported
		if err := handler.(http.Pusher).Push("/style.css", nil); errors.Is(err, http.ErrNotSupported) == supported {
			t.Errorf("Push: %v", err)
		}
		select {
		case <-handler.(interface{ CloseNotify() <-chan bool }).CloseNotify():
			if !supported {
				t.Error("the channel receives something")
			}
			s.closed <- true
		default:
			if supported {
				t.Error("the channel receives nothing")
			}
		}
	}
	if len(s.pushed) != 2 {
		t.Errorf("pushed %q", s.pushed)
	}
}
