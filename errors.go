package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore/internal/mongoerr"
)

// Test for these errors with [errors.Is]. Most errors of the methods wrap one of them, and the
// cause. Others wrap none of them, such as the error for a cookie that fails verification, or for
// a value, an argument or a setting that cannot be used. [StatusCode] returns the HTTP status of
// each.
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

	// ErrUnavailable is returned if the database could not be reached, refused the command, or
	// had not responded when [Config.Timeout] ended or the request was cancelled. It is also
	// returned if too many other requests change the session concurrently. A write may have been
	// carried out if its response was lost.
	ErrUnavailable = errors.New("database is unavailable")
)

var (
	errUnacknowledged = errors.New("the write concern is unacknowledged (w: 0)")
	errContended      = errors.New("too many concurrent changes of the session")
)

func unavailable(err error) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, mongoerr.Redacted(err))
}

func corrupt(err error) error {
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// writeError returns the error of a save for a driver's error.
func writeError(err error) error {
	switch {
	case err == nil:
		return nil
	case mongoerr.HasCode(err, mongoerr.ObjectTooLarge, mongoerr.UpdateTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, mongoerr.Redacted(err))
	default:
		return unavailable(err)
	}
}

// redactedOld returns an error of Config.MigrateFrom without that store's text: gorilla's
// FilesystemStore has the session's ID in the names of its files.
func redactedOld(err error) error {
	var server mongo.ServerError
	var file *fs.PathError
	switch {
	case errors.As(err, &server):
		return mongoerr.Redacted(err)
	case errors.As(err, &file):
		return mongoerr.WithText(fmt.Sprintf("%s: %v", file.Op, file.Err), err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return mongoerr.WithText("the store to migrate from did not respond in time", err)
	}
	cause := err
	for next := cause; next != nil; next = errors.Unwrap(next) {
		cause = next
	}
	return mongoerr.WithText(fmt.Sprintf("the store to migrate from failed with %T", cause), err)
}
