// Package firstbyte wraps an [http.ResponseWriter] to run a function before the first byte of the
// response is sent.
package firstbyte

import (
	"bufio"
	"cmp"
	"io"
	"net"
	"net/http"
)

// Writer is a response writer that calls a function once, before any part of the response is sent.
// If the function fails, the Writer discards the response.
type Writer struct {
	http.ResponseWriter
	begin     func() error
	started   bool
	err       error // of begin
	status    int
	discarded http.Header // what the handler sets after begin failed
}

// New returns a Writer that calls begin. Informational responses, except for 101, are passed on
// without a call.
func New(w http.ResponseWriter, begin func() error) *Writer {
	return &Writer{ResponseWriter: w, begin: begin}
}

var (
	_ io.ReaderFrom   = (*Writer)(nil)
	_ io.StringWriter = (*Writer)(nil)
)

// Start calls the function, unless it was called before, and returns its error.
func (w *Writer) Start() error {
	if !w.started {
		w.started = true
		w.err = w.begin()
	}
	return w.err
}

// Started reports whether the function was called.
func (w *Writer) Started() bool { return w.started }

// Status returns the status of the response that was begun: 200 if none was set.
func (w *Writer) Status() int { return cmp.Or(w.status, http.StatusOK) }

// Header is the method of [http.ResponseWriter]. After a failure, it returns a header that is not
// sent.
func (w *Writer) Header() http.Header {
	if w.err == nil {
		return w.ResponseWriter.Header()
	}
	if w.discarded == nil {
		w.discarded = http.Header{}
	}
	return w.discarded
}

// Unwrap is for [http.ResponseController].
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader is the method of [http.ResponseWriter].
func (w *Writer) WriteHeader(code int) {
	informational := code >= 100 && code <= 199 && code != http.StatusSwitchingProtocols
	if !informational && w.status == 0 && !w.started {
		w.status = code
	}
	if informational && !w.started || w.Start() == nil {
		w.ResponseWriter.WriteHeader(code)
	}
}

// Write is the method of [http.ResponseWriter].
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.Start(); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}

// WriteString lets [io.WriteString] send a string without copying it.
func (w *Writer) WriteString(text string) (int, error) {
	if err := w.Start(); err != nil {
		return 0, err
	}
	return io.WriteString(w.ResponseWriter, text)
}

// ReadFrom lets the server send files without copying them.
func (w *Writer) ReadFrom(src io.Reader) (int64, error) {
	if err := w.Start(); err != nil {
		return 0, err
	}
	return io.Copy(w.ResponseWriter, src)
}

// FlushError is for [http.ResponseController]. If the wrapped writer cannot flush, nothing is sent,
// so the function is not called.
func (w *Writer) FlushError() error {
	if has[http.Flusher](w.ResponseWriter) || has[interface{ FlushError() error }](w.ResponseWriter) {
		if err := w.Start(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *Writer) hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := w.Start(); err != nil {
		return nil, nil, err
	}
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Push is the method of [http.Pusher]. The error is [http.ErrNotSupported] if the wrapped writer
// is none.
func (w *Writer) Push(target string, opts *http.PushOptions) error {
	if pusher, ok := find[http.Pusher](w.ResponseWriter); ok {
		return pusher.Push(target, opts)
	}
	return http.ErrNotSupported
}

// CloseNotify is the method of [http.CloseNotifier], which gin calls without checking for it. The
// channel receives nothing if the wrapped writer is none.
func (w *Writer) CloseNotify() <-chan bool {
	if notifier, ok := find[http.CloseNotifier](w.ResponseWriter); ok { //nolint:staticcheck // deprecated, but gin uses it
		return notifier.CloseNotify()
	}
	return make(chan bool)
}

// ForHandler returns the Writer. It has the methods Flush and Hijack only if the wrapped writer has
// them, because handlers check for them with type assertions.
func (w *Writer) ForHandler() http.ResponseWriter {
	switch flushes, hijacks := has[http.Flusher](w.ResponseWriter), has[http.Hijacker](w.ResponseWriter); {
	case flushes && hijacks:
		return struct {
			*Writer
			flusher
			hijacker
		}{w, flusher{w}, hijacker{w}}
	case flushes:
		return struct {
			*Writer
			flusher
		}{w, flusher{w}}
	case hijacks:
		return struct {
			*Writer
			hijacker
		}{w, hijacker{w}}
	default:
		return w
	}
}

type flusher struct{ w *Writer }

func (f flusher) Flush() { _ = f.w.FlushError() }

type hijacker struct{ w *Writer }

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.w.hijack() }

// has reports whether a writer, or one that it wraps, is a T.
func has[T any](w http.ResponseWriter) bool {
	_, ok := find[T](w)
	return ok
}

// find returns a writer, or the first that it wraps, as a T.
func find[T any](w http.ResponseWriter) (found T, ok bool) {
	for {
		if found, ok = w.(T); ok {
			return found, true
		}
		wrapper, wraps := w.(interface{ Unwrap() http.ResponseWriter })
		if !wraps {
			return found, false
		}
		w = wrapper.Unwrap()
	}
}
