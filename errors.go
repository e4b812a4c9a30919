package mongostore

import (
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// The errors to test for with [errors.Is]. What the methods return wraps one of
// these, and the cause beside it, if there is one.
var (
	// ErrGone is returned by [Store.Save] when the session was removed, or has
	// expired, since it was loaded. Nothing is written and no cookie is sent:
	// a logout stays a logout. [Store.New] gives a new session to go on with.
	ErrGone = errors.New("session is gone")

	// ErrTooLarge is returned by [Store.Save] when the encoded values exceed
	// [Config.MaxSize], or the document what the server accepts. Nothing is
	// written.
	ErrTooLarge = errors.New("session is too large")

	// ErrCorrupt is returned by [Store.Get] and [Store.New], with a new session
	// that refuses to be saved, when the stored session cannot be understood: it
	// is damaged, of a newer format, or holds a type that is not registered
	// with [encoding/gob.Register]. The document stays as it is.
	ErrCorrupt = errors.New("stored session cannot be read")

	// ErrUnavailable is returned when the database could not be reached, did not
	// answer within [Config.Timeout], or answered with an error of its own. It
	// comes with the driver's error.
	ErrUnavailable = errors.New("database is unavailable")
)

// unavailable wraps an error of the driver.
func unavailable(err error) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// Codes of the server's errors, as in its src/mongo/base/error_codes.yml.
const (
	codeIndexOptionsConflict = 85
	codeIndexSpecsConflict   = 86
	codeObjectTooLarge       = 10334
	codeUpdateTooLarge       = 17419
)

// hasCode reports whether the server answered with one of the codes.
func hasCode(err error, codes ...int) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && slices.ContainsFunc(codes, server.HasErrorCode)
}
