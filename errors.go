package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// The errors to test for with [errors.Is]. The methods' errors wrap one of them and its cause,
// or none of them if the application is at fault: a value, an argument or a setting that
// cannot be used. [StatusCode] returns the HTTP status of each.
var (
	// ErrGone is returned by [Store.Save], [Store.Renew], [Store.Persist] and [Store.Touch]
	// if the session has ended since it was loaded: by a logout, a renewal, or its expiry.
	// Nothing is written and no cookie is sent. [Store.New] returns a new session to
	// continue with.
	ErrGone = errors.New("session is gone")

	// ErrConflict is returned by [Store.Save], [Store.Renew] and [Store.Persist] under
	// [ConflictReject] if another request has changed the same key since the session was
	// loaded. Nothing is written.
	ErrConflict = errors.New("session was changed by another request")

	// ErrNotFound is returned by [Store.Fetch] if no live session has the ID.
	ErrNotFound = errors.New("session not found")

	// ErrTooLarge is returned by [Store.Save], [Store.Renew] and [Store.Persist] if the
	// encoded values exceed [Config.MaxSize], or the document exceeds the server's limit.
	// Nothing is written.
	ErrTooLarge = errors.New("session is too large")

	// ErrCorrupt is returned by [Store.Get] and [Store.New], with a new session whose Save
	// fails, and by [Store.Fetch], if the stored session cannot be decoded: it is damaged,
	// of a newer format, sealed with a key that is not among [Config.SealKeys], or holds a type
	// that is neither in [Config.Types] nor registered with [encoding/gob.Register]. The
	// document stays as it is. See [Config.OnCorrupt].
	ErrCorrupt = errors.New("stored session cannot be read")

	// ErrUnavailable is returned if the database could not be reached, did not respond
	// within [Config.Timeout] or before the request was cancelled, or refused the command.
	// A write may have been carried out if its response was lost.
	ErrUnavailable = errors.New("database is unavailable")
)

var errUnacknowledged = errors.New("the write concern is unacknowledged (w: 0)")

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, redacted(err))
}

func corrupt(err error) error {
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// writeError returns the error of a save for a driver's error.
func writeError(err error) error {
	switch {
	case err == nil:
		return nil
	case hasCode(err, codeObjectTooLarge, codeUpdateTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, redacted(err))
	default:
		return unavailable(err)
	}
}

// redactedError has a text without the words of the server or of another store, which may
// quote values or IDs. The original is available through [errors.As].
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }

func (e *redactedError) Unwrap() error { return e.err }

// redacted returns an error of the driver without the server's message: MongoDB quotes the
// command that it refuses, and with it a session's values.
func redacted(err error) error {
	text := err.Error()
	var command mongo.CommandError
	var write mongo.WriteException
	switch {
	case errors.As(err, &write):
		text = fmt.Sprintf("server error %v", write.ErrorCodes())
		if index := uniqueIndex(write); index != "" {
			text += fmt.Sprintf(" (duplicate key in the index %q)", index)
		}
	case errors.As(err, &command) && command.Raw != nil: // or it is the driver's own
		text = strings.TrimSpace(fmt.Sprintf("server error [%d] %s", command.Code, command.Name))
	default:
		text = withoutServerWords(text)
	}
	return &redactedError{text, err}
}

// quotedError matches where the driver quotes an earlier error, which may be the server's, in
// its description of the servers and of a connection pool.
var (
	quotedError  = regexp.MustCompile(`(Last error|failed with): `)
	networkError = regexp.MustCompile(`^(dial|read|write|lookup|connection\(|EOF|context |x509|tls|socket)`)
)

// withoutServerWords truncates the text of a driver's error where it quotes an error that is
// not a network error.
func withoutServerWords(text string) string {
	for _, at := range quotedError.FindAllStringIndex(text, -1) {
		if !networkError.MatchString(text[at[1]:]) {
			return text[:at[1]] + "(omitted)"
		}
	}
	return text
}

// duplicateKey is the beginning of the server's message for code 11000; what follows holds
// a value.
var duplicateKey = regexp.MustCompile(`^E11000 duplicate key error collection: \S+ index: ([\w.-]+) (?:collation|dup key): `)

// uniqueIndex returns the name of the index with the duplicate key of a write, unless it is
// the index on _id.
func uniqueIndex(err mongo.WriteException) string {
	for _, e := range err.WriteErrors {
		if m := duplicateKey.FindStringSubmatch(e.Message); m != nil && e.Code == codeDuplicateKey && m[1] != "_id_" {
			return m[1]
		}
	}
	return ""
}

// redactedOld returns an error of Config.MigrateFrom without that store's text: gorilla's
// FilesystemStore has the session's ID in the names of its files.
func redactedOld(err error) error {
	var server mongo.ServerError
	var file *fs.PathError
	switch {
	case errors.As(err, &server):
		return redacted(err)
	case errors.As(err, &file):
		return &redactedError{fmt.Sprintf("%s: %v", file.Op, file.Err), err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &redactedError{"the store to migrate from did not respond in time", err}
	}
	cause := err
	for next := cause; next != nil; next = errors.Unwrap(next) {
		cause = next
	}
	return &redactedError{fmt.Sprintf("the store to migrate from failed with %T", cause), err}
}

// lookupError returns the failure of a DNS lookup. Its text does not contain the URI's password.
func lookupError(err error) error {
	var lookup *net.DNSError
	if errors.As(err, &lookup) {
		return unavailable(lookup)
	}
	return nil
}

// Codes of the server's errors, as in its src/mongo/base/error_codes.yml.
const (
	codeTypeMismatch   = 14
	codeObjectTooLarge = 10334
	codeDuplicateKey   = 11000
	codeUpdateTooLarge = 17419
)

// transientCodes are the errors of a server that is stopping, starting or stepping down, or
// that is already building the index.
var transientCodes = []int{
	6,     // HostUnreachable
	7,     // HostNotFound
	24,    // LockTimeout
	50,    // MaxTimeMSExpired
	64,    // WriteConcernFailed
	89,    // NetworkTimeout
	91,    // ShutdownInProgress
	100,   // UnsatisfiableWriteConcern
	112,   // WriteConflict
	117,   // ConflictingOperationInProgress
	133,   // FailedToSatisfyReadPreference
	189,   // PrimarySteppedDown
	262,   // ExceededTimeLimit
	276,   // IndexBuildAborted
	9001,  // SocketException
	10058, // LegacyNotPrimary
	10107, // NotWritablePrimary
	11600, // InterruptedAtShutdown
	11602, // InterruptedDueToReplStateChange
	13388, // StaleConfig
	13435, // NotPrimaryNoSecondaryOk
	13436, // NotPrimaryOrSecondary
}

// answered reports whether the server responded that it has not carried out the command, so that
// it will not carry it out later. It returns false for a retryable write error: the driver has
// retried the command, and the response is not about the first attempt.
// https://www.mongodb.com/docs/manual/core/retryable-writes/
func answered(err error) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && len(server.ErrorCodes()) > 0 && !server.HasErrorLabel("RetryableWriteError") &&
		!mongo.IsNetworkError(err) && !mongo.IsTimeout(err)
}

// permanent reports whether the server will respond with the same error again.
func permanent(err error) bool {
	return answered(err) && !hasCode(err, transientCodes...)
}

// refusedWrite reports whether the server has refused a write and changed nothing. A write
// concern error follows the change.
func refusedWrite(err error) bool {
	var write mongo.WriteException
	if errors.As(err, &write) && write.WriteConcernError != nil {
		return false
	}
	return permanent(err) // a server that steps down may respond with a transient error after the change
}

// hasCode reports whether the server responded with one of the codes.
func hasCode(err error, codes ...int) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && slices.ContainsFunc(codes, server.HasErrorCode)
}

var errContended = errors.New("too many concurrent changes of the session")
