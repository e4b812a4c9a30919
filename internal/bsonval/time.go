package bsonval

import (
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A time that BSON's date would change is stored as text. Not as MarshalBinary encodes it: that
// refuses some offsets, and does not return negative offsets with seconds.

// zonedTime is RFC 3339, where Z and +00:00 mean the same. Here Z is UTC, and +00:00 is
// another zone.
const zonedTime = "2006-01-02T15:04:05.999999999-07:00"

func appendTime(_ walker, dst []byte, v any, _ int) ([]byte, bson.Type, error) {
	return appendString(dst, formatTime(v.(time.Time))), bson.TypeString, nil
}

func decodeTime(_ walker, content Value, _ int) (any, error) {
	if text, ok := content.Text(); ok {
		if t, ok := parseTime(text); ok {
			return t, nil
		}
	}
	return nil, badTag("time.Time")
}

// formatTime returns t in RFC 3339. A time that RFC 3339 cannot express, in a year of five digits
// or at an offset with seconds, is formatted as seconds since 1970, nanoseconds, and
// seconds east of UTC or Z: "@-1 999999999 +1172".
func formatTime(t time.Time) string {
	_, offset := t.Zone()
	utc := t.Location() == time.UTC
	switch {
	case t.Year() < 0 || t.Year() > 9999 || offset%60 != 0 || offset <= -24*60*60 || offset >= 24*60*60:
		zone := "Z"
		if !utc {
			zone = fmt.Sprintf("%+d", offset)
		}
		return fmt.Sprintf("@%d %d %s", t.Unix(), t.Nanosecond(), zone)
	case utc:
		return t.Format(time.RFC3339Nano)
	default:
		return t.Format(zonedTime)
	}
}

// parseTime is the inverse of [formatTime]. Like encoding/gob, it returns a time in Local if that
// has the same offset then.
func parseTime(text string) (time.Time, bool) {
	numbers, odd := strings.CutPrefix(text, "@")
	if !odd {
		t, err := time.Parse(time.RFC3339Nano, text)
		return t, err == nil
	}
	var seconds, nanos, offset int64
	numbers, utc := strings.CutSuffix(numbers, "Z")
	if utc {
		numbers += "0"
	}
	if _, err := fmt.Sscanf(numbers, "%d %d %d", &seconds, &nanos, &offset); err != nil {
		return time.Time{}, false
	}
	t := time.Unix(seconds, nanos)
	if _, local := t.Zone(); utc {
		t = t.UTC()
	} else if int64(local) != offset {
		t = t.In(time.FixedZone("", int(offset)))
	}
	return t, formatTime(t) == text
}
