package mongostore

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// The errors to test for with [errors.Is]. What the methods return wraps one of
// these, and the cause beside it, if there is one; or none of them, where the application
// is at fault: a value, an argument or a setting that cannot be used.
var (
	// ErrGone is returned by [Store.Save], [Store.Renew] and [Store.Persist]
	// when the session was removed, or has expired, since it was loaded.
	// Nothing is written and no cookie is sent: a logout stays a logout.
	// [Store.New] gives a new session to go on with.
	ErrGone = errors.New("session is gone")

	// ErrConflict is returned by [Store.Save], [Store.Renew] and
	// [Store.Persist] under [Reject] when another request has changed a key
	// since the session was loaded that this one changed as well. Nothing is
	// written.
	ErrConflict = errors.New("session was changed by another request")

	// ErrNotFound is returned by [Store.Fetch] when no live session has the ID.
	ErrNotFound = errors.New("session not found")

	// ErrTooLarge is returned by [Store.Save], [Store.Renew] and
	// [Store.Persist] when the encoded values exceed [Config.MaxSize], or the
	// document what the server accepts. Nothing is written.
	ErrTooLarge = errors.New("session is too large")

	// ErrCorrupt is returned by [Store.Get] and [Store.New], with a new session
	// that refuses to be saved, and by [Store.Fetch], when the stored session
	// cannot be understood: it is damaged, of a newer format, sealed with a key
	// that is not among [Config.SealKeys], or holds a type that is not registered
	// with [encoding/gob.Register]. The document stays as it is.
	ErrCorrupt = errors.New("stored session cannot be read")

	// ErrUnavailable is returned when the database could not be reached, did not
	// answer within [Config.Timeout] or before the request was cancelled, or
	// refused the command. It comes with the driver's error. A write may have been
	// carried out all the same, if its answer was lost.
	ErrUnavailable = errors.New("database is unavailable")
)

// unavailable wraps an error of the driver.
func unavailable(err error) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, discreet{err})
}

// discreet is an error of the driver without the server's own words: MongoDB quotes
// the command that it refuses, and with it a session's values. They can still be
// had with [errors.As].
type discreet struct{ error }

func (e discreet) Unwrap() error { return e.error }

func (e discreet) Error() string {
	var refused mongo.CommandError
	var write mongo.WriteException
	switch {
	case errors.As(e.error, &write):
		return fmt.Sprintf("server answered with error %v", write.ErrorCodes())
	case errors.As(e.error, &refused) && refused.Raw != nil: // or it is the driver's own
		return strings.TrimSpace(fmt.Sprintf("server answered with error [%d] %s", refused.Code, refused.Name))
	default:
		return e.error.Error()
	}
}

// foreign is an error of the store that is migrated from, without that store's own words: gorilla's
// FilesystemStore has the session's ID in the names of its files. They can still be had with
// [errors.As].
type foreign struct{ error }

func (e foreign) Unwrap() error { return e.error }

func (e foreign) Error() string {
	var server mongo.ServerError
	var file *fs.PathError
	switch {
	case errors.As(e.error, &server):
		return discreet(e).Error()
	case errors.As(e.error, &file):
		return fmt.Sprintf("%s: %v", file.Op, file.Err)
	}
	cause := e.error
	for next := cause; next != nil; next = errors.Unwrap(next) {
		cause = next
	}
	return fmt.Sprintf("the store to migrate from failed with %T", cause)
}

// Codes of the server's errors, as in its src/mongo/base/error_codes.yml.
const (
	codeTypeMismatch   = 14
	codeObjectTooLarge = 10334
	codeUpdateTooLarge = 17419
)

// answered reports whether the server said that it did not do what it was told, so
// that it will not do it any more. What is labelled to be repeated the driver has
// repeated, and the answer says nothing of its first attempt.
// https://www.mongodb.com/docs/manual/core/retryable-writes/
func answered(err error) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && len(server.ErrorCodes()) > 0 && !server.HasErrorLabel("RetryableWriteError") &&
		!mongo.IsNetworkError(err) && !mongo.IsTimeout(err)
}

// refusedWrite reports whether a write was answered with an error and has changed
// nothing. An error of the write concern comes after the change.
func refusedWrite(err error) bool {
	var write mongo.WriteException
	if errors.As(err, &write) && write.WriteConcernError != nil {
		return false
	}
	return answered(err)
}

// hasCode reports whether the server answered with one of the codes.
func hasCode(err error, codes ...int) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && slices.ContainsFunc(codes, server.HasErrorCode)
}

// refused reports whether the server will answer the same the next time.
func refused(err error) bool {
	return answered(err) && !hasCode(err, transientCodes...)
}

// transientCodes are what a server answers that is about to stop, to start or to
// hand over, or has the index in the making.
var transientCodes = []int{
	6, 7, 24, 50, 64, 89, 91, 100, 112, 117, 133, 189, 262, 276, 9001, 10058, 10107, 11600, 11602, 13388, 13435, 13436,
}

func corrupt(err error) error {
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// The writes of a save. Each leaves the state as the database acknowledged it, or as
// it was.

var errUnacknowledged = errors.New("the write concern is unacknowledged (w: 0)")

// writeError says what a driver's error means for the caller of a save.
func writeError(err error) error {
	switch {
	case err == nil:
		return nil
	case hasCode(err, codeObjectTooLarge, codeUpdateTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, discreet{err})
	default:
		return unavailable(err)
	}
}
