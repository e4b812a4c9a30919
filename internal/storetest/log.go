package storetest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
)

// commandLog collects the commands that a client sends, but for those of its
// connection's own.
type CommandLog struct {
	mu       sync.Mutex
	names    []string
	commands []bson.Raw
	bytes    int
}

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

// reset returns the names of the commands since the last reset.
func (l *CommandLog) Reset() []string {
	names, _ := l.Take()
	return names
}

// take returns the names, and the documents, of the commands since the last reset.
func (l *CommandLog) Take() ([]string, []bson.Raw) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names, commands := l.names, l.commands
	l.names, l.commands, l.bytes = nil, nil, 0
	return names, commands
}

func (l *CommandLog) Size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// logBuffer is what a logger writes to.
type LogBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
