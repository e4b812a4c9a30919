// Package mongoerr classifies errors of the MongoDB driver, and removes the server's messages from
// their texts.
package mongoerr

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Codes of the server's errors, as in its src/mongo/base/error_codes.yml.
const (
	TypeMismatch        = 14
	CommandNotSupported = 115
	NotImplemented      = 238
	ObjectTooLarge      = 10334
	DuplicateKey        = 11000
	UpdateTooLarge      = 17419
	UnknownStage        = 40324
	NoReplicaSet        = 40573
)

// transient are the codes of a server that is stopping, starting or stepping down, or that is
// already building the index.
var transient = []int{
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

// HasCode reports whether the server responded with one of the codes.
func HasCode(err error, codes ...int) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && slices.ContainsFunc(codes, server.HasErrorCode)
}

// Answered reports whether the server responded that it has not carried out the command, so that
// it will not carry it out later. It returns false for a retryable write error: the driver has
// retried the command, and the response is not about the first attempt.
// https://www.mongodb.com/docs/manual/core/retryable-writes/
func Answered(err error) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && len(server.ErrorCodes()) > 0 && !server.HasErrorLabel("RetryableWriteError") &&
		!mongo.IsNetworkError(err) && !mongo.IsTimeout(err)
}

// Permanent reports whether the server will respond with the same error again.
func Permanent(err error) bool {
	return Answered(err) && !HasCode(err, transient...)
}

// RefusedWrite reports whether the server has refused a write and changed nothing. It returns
// false for a write concern error, because the write has already been applied.
func RefusedWrite(err error) bool {
	var write mongo.WriteException
	if errors.As(err, &write) && write.WriteConcernError != nil {
		return false
	}
	return Permanent(err) // a server that steps down may respond with a transient error after the change
}

// redactedError has a text without the words of the server.
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }

func (e *redactedError) Unwrap() error { return e.err }

// WithText returns an error with the text. The original is available through [errors.As].
func WithText(text string, err error) error { return &redactedError{text, err} }

// Redacted returns an error of the driver without the server's message: MongoDB quotes the
// command that it refuses, and with it the values in it. The original is available through
// [errors.As].
func Redacted(err error) error {
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
	return WithText(text, err)
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
		if m := duplicateKey.FindStringSubmatch(e.Message); m != nil && e.Code == DuplicateKey && m[1] != "_id_" {
			return m[1]
		}
	}
	return ""
}
