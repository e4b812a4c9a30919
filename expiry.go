package mongostore

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// lifetime is how long a session lives that is not saved again.
func (s *Store) lifetime(maxAge int) time.Duration {
	const longest = 100 * 365 * 24 * time.Hour // a time.Duration has not much more
	lifetime := s.cfg.BrowserTTL
	if int64(maxAge) > int64(longest/time.Second) {
		lifetime = longest
	} else if maxAge > 0 {
		lifetime = time.Duration(maxAge) * time.Second
	}
	if s.cfg.AbsoluteTimeout > 0 {
		lifetime = min(lifetime, s.cfg.AbsoluteTimeout)
	}
	return lifetime
}

// touchInterval is how often at most the expiry of an unchanged session is moved.
func (s *Store) touchInterval(maxAge int) time.Duration {
	return min(s.cfg.TouchInterval, s.lifetime(maxAge)/10)
}

// expiry is when a session ends that is not saved again after now.
func (s *Store) expiry(createdAt, now time.Time, maxAge int) time.Time {
	idle := now.Add(s.lifetime(maxAge))
	if s.cfg.AbsoluteTimeout > 0 {
		if absolute := createdAt.Add(s.cfg.AbsoluteTimeout); absolute.Before(idle) {
			return absolute
		}
	}
	return idle
}

// aliveAt reports whether the record has not expired. The absolute timeout may
// have been set after the record was written.
func (s *Store) aliveAt(rec *record, now time.Time) bool {
	return rec.expiresAt.After(now) &&
		(rec.maxAge == nil || rec.seenAt.Add(s.lifetime(*rec.maxAge)).After(now)) &&
		(s.cfg.AbsoluteTimeout == 0 || rec.createdAt.Add(s.cfg.AbsoluteTimeout).After(now))
}

// aliveIf is aliveAt as the server can tell it of the document that was read as rec. Of one
// that has another MaxAge by now it cannot: that has to be read again.
func (s *Store) aliveIf(rec *record, now time.Time) condition {
	c := condition{aliveAt: now, maxAge: rec.maxAge}
	if rec.maxAge != nil {
		c.seenAfter = now.Add(-s.lifetime(*rec.maxAge))
	}
	return c
}

// live is the filter for sessions that have not expired.
func (s *Store) live(now time.Time) bson.D {
	filter := bson.D{{Key: fieldExpiresAt, Value: bson.D{{Key: "$gt", Value: bson.NewDateTimeFromTime(now)}}}}
	if s.cfg.AbsoluteTimeout > 0 {
		filter = append(filter, bson.E{Key: fieldCreatedAt, Value: bson.D{{Key: "$gt", Value: bson.NewDateTimeFromTime(now.Add(-s.cfg.AbsoluteTimeout))}}})
	}
	return filter
}
