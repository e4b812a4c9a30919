package mongoerr_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore/internal/mongoerr"
)

// reply is what the server said.
var reply = bson.Raw{5, 0, 0, 0, 0}

func TestClassification(t *testing.T) {
	t.Parallel()
	command := func(code int32, labels ...string) error {
		return mongo.CommandError{Code: code, Message: "TOP SECRET", Labels: labels, Raw: reply}
	}
	write := func(code int) error {
		return mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: code, Message: "TOP SECRET"}}, Raw: reply}
	}
	concern := mongo.WriteException{WriteConcernError: &mongo.WriteConcernError{Code: 64, Message: "TOP SECRET"}, Raw: reply}
	both := mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: 11000}}, WriteConcernError: &mongo.WriteConcernError{Code: 64}, Raw: reply}
	for _, tt := range []struct {
		name                         string
		err                          error
		answered, permanent, refused bool
	}{
		{"no error", nil, false, false, false},
		{"an error that is not the server's", errors.New("x"), false, false, false},
		{"the context's error", context.DeadlineExceeded, false, false, false},
		{"a missing permission", command(13), true, true, true},
		{"a wrapped one", fmt.Errorf("x: %w", command(13)), true, true, true},
		{"a duplicate key", write(11000), true, true, true},
		{"a server that is stopping", command(91), true, false, false},
		{"a server that steps down", command(10107), true, false, false},
		{"an error that the driver has retried", command(13, "RetryableWriteError"), false, false, false},
		{"a network error", command(0, "NetworkError"), false, false, false},
		{"the server's time limit", command(50), false, false, false},
		{"a write concern that was not met", concern, true, false, false},
		{"a refused write whose write concern was not met", both, true, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := mongoerr.Answered(tt.err); got != tt.answered {
				t.Errorf("Answered: %t", got)
			}
			if got := mongoerr.Permanent(tt.err); got != tt.permanent {
				t.Errorf("Permanent: %t", got)
			}
			if got := mongoerr.RefusedWrite(tt.err); got != tt.refused {
				t.Errorf("RefusedWrite: %t", got)
			}
		})
	}
	if err := write(11000); !mongoerr.HasCode(err, mongoerr.TypeMismatch, mongoerr.DuplicateKey) || mongoerr.HasCode(err, mongoerr.TypeMismatch) {
		t.Error("HasCode")
	}
}

func TestRedactedErrorsHoldNoWordsOfTheServer(t *testing.T) {
	t.Parallel()
	duplicate := "E11000 duplicate key error collection: app.sessions index: sid_1 dup key: { sid: \"TOP SECRET\" }"
	for _, tt := range []struct {
		err  error
		want string
	}{
		{mongo.CommandError{Code: 13, Name: "Unauthorized", Message: "TOP SECRET", Raw: reply}, "server error [13] Unauthorized"},
		{mongo.CommandError{Code: 13, Message: "TOP SECRET", Raw: reply}, "server error [13]"},
		{mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: 121, Message: "TOP SECRET"}}}, "server error [121]"},
		{mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: 11000, Message: duplicate}}}, `server error [11000] (duplicate key in the index "sid_1")`},
		{mongo.WriteException{WriteErrors: mongo.WriteErrors{{Code: 11000, Message: strings.Replace(duplicate, "sid_1", "_id_", 1)}}}, "server error [11000]"},
		{errors.New("server selection error: { Addr: a:1, Last error: (NotPrimary) TOP SECRET }"), "server selection error: { Addr: a:1, Last error: (omitted)"},
		{errors.New("server selection error: { Addr: a:1, Last error: dial tcp: refused }"), "server selection error: { Addr: a:1, Last error: dial tcp: refused }"},
		{errors.New("connection pool was cleared because another operation failed with: TOP SECRET"), "connection pool was cleared because another operation failed with: (omitted)"},
	} {
		got := mongoerr.Redacted(tt.err)
		if got.Error() != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
		if errors.Unwrap(got).Error() != tt.err.Error() {
			t.Errorf("%q does not wrap the original", got)
		}
	}
}
