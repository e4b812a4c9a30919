// Package firstbyte wraps an [http.ResponseWriter] to run a function before the first byte of the
// response is sent.
package firstbyte

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// Writer is a response writer that calls a function once, before any part of the response is sent.
// If the function fails, the Writer discards the response.
type Writer struct {
	http.ResponseWriter
	begin   func() error
	started bool
	err     error // of begin
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

// Unwrap is for [http.ResponseController].
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader is the method of [http.ResponseWriter].
func (w *Writer) WriteHeader(code int) {
	informational := code >= 100 && code <= 199 && code != http.StatusSwitchingProtocols
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

// FlushError is for [http.ResponseController].
func (w *Writer) FlushError() error {
	if err := w.Start(); err != nil {
		return err
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *Writer) hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := w.Start(); err != nil {
		return nil, nil, err
	}
	return http.NewResponseController(w.ResponseWriter).Hijack()
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
	for {
		if _, ok := w.(T); ok {
			return true
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = wrapper.Unwrap()
	}
}
