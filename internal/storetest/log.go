package storetest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
)

// CommandLog collects the commands that a client sends, except those that maintain its
// connections.
type CommandLog struct {
	mu       sync.Mutex
	names    []string
	commands []bson.Raw
	bytes    int
}

// Monitor returns the monitor to open a client with.
func (l *CommandLog) Monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		switch e.CommandName {
		case "ping", "endSessions", "killCursors":
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.names = append(l.names, e.CommandName)
		l.commands = append(l.commands, slices.Clone(e.Command))
		l.bytes += len(e.Command)
	}}
}

// Reset returns the names of the commands since the last reset.
func (l *CommandLog) Reset() []string {
	names, _ := l.Take()
	return names
}

// Take returns the names and the documents of the commands since the last reset.
func (l *CommandLog) Take() ([]string, []bson.Raw) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names, commands := l.names, l.commands
	l.names, l.commands, l.bytes = nil, nil, 0
	return names, commands
}

// Size returns the number of bytes of the commands since the last reset.
func (l *CommandLog) Size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// LogBuffer collects the output of a logger.
type LogBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

// Write appends to the collected output. It never fails.
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns the collected output.
func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
