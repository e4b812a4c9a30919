package mongostore

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/bsonval"
)

const (
	longestMaxAge = 100 * 365 * 24 * 60 * 60 // seconds; a time.Duration holds little more

	// tombstoneLife is how long a renewed session leaves a tombstone under its old ID.
	tombstoneLife = time.Hour
)

// lifetimes decides when sessions end and when their expiry moves. It reads no clock
// and does no I/O.
type lifetimes struct {
	browser  time.Duration // of a session with MaxAge 0
	absolute time.Duration // since the creation; 0 is unlimited
	touch    time.Duration // the shortest time between two touches
}

// idle returns how long a session lives after its last touch.
func (l lifetimes) idle(maxAge int) time.Duration {
	idle := l.browser
	if maxAge > 0 {
		idle = time.Duration(min(int64(maxAge), longestMaxAge)) * time.Second
	}
	if l.absolute > 0 {
		idle = min(idle, l.absolute)
	}
	return idle
}

// expiry returns when a session expires whose last touch is at seenAt.
func (l lifetimes) expiry(createdAt, seenAt time.Time, maxAge int) time.Time {
	end := seenAt.Add(l.idle(maxAge))
	if l.absolute > 0 && createdAt.Add(l.absolute).Before(end) {
		return createdAt.Add(l.absolute)
	}
	return end
}

// corrected returns m with its times corrected at now, and whether the next save has to write
// them. Times in the future come from a process with a wrong clock. An expiry beyond what the
// settings allow comes from such a process, or from one with other settings.
func (l lifetimes) corrected(m meta, maxAge int, now time.Time) (_ meta, wrong bool) {
	const skew = time.Minute // the difference between the clocks of two processes that is tolerated
	latest := now.Add(skew)
	if m.createdAt.After(latest) {
		m.createdAt, wrong = now, true
	}
	if m.seenAt.After(latest) {
		m.seenAt, wrong = now, true
	}
	if allowed := l.expiry(m.createdAt, m.seenAt, maxAge); m.expiresAt.After(allowed) {
		wrong = wrong || m.expiresAt.After(allowed.Add(skew))
		m.expiresAt = allowed
	}
	return m, wrong
}

// touchDue reports whether the expiry of a session that was touched at a time may move again.
func (l lifetimes) touchDue(touched, now time.Time, maxAge int) bool {
	return now.Sub(touched) >= min(l.touch, l.idle(maxAge)/10)
}

// cookieSent returns when the session's cookie was last sent. Touch moves the expiry without a
// cookie, whose own expiry is then the earlier one.
func (m *meta) cookieSent() time.Time {
	if m.cookieAt.IsZero() || m.cookieAt.After(m.seenAt) {
		return m.seenAt
	}
	return m.cookieAt
}

// alive reports whether a session has neither ended nor expired.
func (m *meta) alive(now time.Time) bool {
	return !m.tombstone && m.expiresAt.After(now)
}

// justRenewed reports whether m is the tombstone of a renewal a moment ago: requests that were
// sent before it may still arrive with the old ID.
func (m *meta) justRenewed(now time.Time) bool {
	return m.tombstone && m.movedTo != "" && now.Sub(m.seenAt) < 30*time.Second
}

// now returns the time with the precision of a BSON date.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// expiredSessions returns the filter for the documents that the TTL index deletes.
func expiredSessions(now time.Time, hashes ...bsonval.Value) bson.Raw {
	b := bsonval.NewBuilder(128)
	if len(hashes) > 0 {
		b.Begin(fieldID)
		b.Value("$in", bsonval.List(hashes))
		b.End()
	}
	b.Begin(fieldExpiresAt)
	b.Time("$lte", now)
	b.End()
	b.Begin(fieldVersion)
	b.Bool("$exists", true)
	b.End()
	return b.Document()
}

// liveSessions returns the filter for the sessions that have not expired.
func liveSessions(now time.Time) bson.Raw {
	b := bsonval.NewBuilder(160)
	b.Begin(fieldExpiresAt)
	b.Time("$gt", now)
	b.End()
	b.Begin(fieldRev)
	b.Int("$gt", 0)
	b.End()
	b.Begin(fieldVersion)
	b.Bool("$exists", true)
	b.End()
	return b.Document()
}
