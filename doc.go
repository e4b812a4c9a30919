// Package mongostore keeps the sessions of [github.com/gorilla/sessions] in MongoDB.
//
// Most applications need [Open] at their start,
//
//	store, err := mongostore.Open(ctx, mongostore.Config{Database: "app"}, signingKey)
//
// and then, in their handlers, what they know from gorilla:
//
//	session, err := store.Get(r, "session")
//	if errors.Is(err, mongostore.ErrUnavailable) || errors.Is(err, mongostore.ErrCorrupt) {
//		http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
//		return
//	}
//	session.Values["user"] = 42
//	if err := session.Save(r, w); err != nil { // before the body is written
//		...
//	}
//
// [New] makes a store of a collection that the application has already. Nothing has to be
// created in the database.
//
// # What is stored
//
// One session is one document. The cookie holds its ID, signed, and encrypted if there is
// an encryption key; the document's _id is the ID's SHA-256, so who reads the
// database cannot take a session over. Values are ordinary BSON where that
// returns the same Go type and value: nil, bool, string, int, int64, float64, []byte,
// time.Time, bson.ObjectID, []any and map[string]any. Other basic types are stored as
// {_type: T, _value: V}, and what remains by [encoding/gob], for which its type has
// to be registered, as with gorilla's own stores. Every key is encoded by itself.
//
// # Requests at once
//
// [Store.Save] sends the keys that have changed since the session was loaded, and an
// unchanged session not at all. So requests that change different keys do not
// undo each other; of two that change one key the later one wins. A
// session that was removed, or has expired, cannot be brought back by a request that
// loaded it before: its Save returns [ErrGone].
//
// # When MongoDB is away
//
// [Store.Get] returns [ErrUnavailable], with a session that refuses to be
// saved; the cookie and the document stay, and the visitor is logged in again
// when MongoDB is. Each operation is bounded by [Config.Timeout]. A logout
// succeeds all the same: this process forgets the session at once and repeats
// the deletion until it succeeds.
//
// # Expiry
//
// A session expires when it has not been saved for its MaxAge, or for
// [Config.BrowserTTL] if that is 0. The time stands in the document and is checked on every
// load; the date in the cookie decides nothing. Expired documents are deleted by a TTL
// index, or where there is none by the store: see [Cleanup]. [Config.AbsoluteTimeout]
// ends a session however often it is used.
//
// # Security
//
// An ID has 256 bits from [crypto/rand]; one that comes from outside is never adopted.
// [Store.Renew] gives a fresh one at a login. Cookies are by default HttpOnly, Secure and
// SameSite=Lax. [Config.SealKeys] encrypt the values in the database. No error and no
// warning holds an ID, a cookie or a value.
//
// # Users and their devices
//
// With [Config.OwnerKey], [Store.Sessions] lists the sessions of a user, [Store.Revoke]
// ends one of them and [Store.RevokeAll] all, wherever they are.
//
// # In production
//
// Reads go to the primary; the write concern is the collection's. [Store.Close] belongs
// after the end of the last request. The rights that the database user needs, all
// warnings with what to do about them, and how to replace keys, to shard, to monitor and to
// end all sessions are in
// https://github.com/mongostore/mongostore/blob/main/docs/operations.md.
package mongostore
