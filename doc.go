// Package mongostore keeps the sessions of [github.com/gorilla/sessions] in MongoDB.
//
// Open the store once. Its middleware loads the session before each handler, saves it
// afterwards, and responds to errors:
//
//	store, err := mongostore.Open(ctx, mongostore.Config{Database: "app"}, key) // 32 random bytes
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer store.Close(ctx)
//
//	r := mux.NewRouter()
//	r.Use(store.Middleware("session"))
//
// Handlers use the session as with any store of gorilla:
//
//	func home(w http.ResponseWriter, r *http.Request) {
//		session, _ := store.Get(r, "session")
//		visits, _ := mongostore.Value[int](session, "visits")
//		session.Values["visits"] = visits + 1
//		fmt.Fprintln(w, "visit", visits+1)
//	}
//
// At a login, set the user and call [Store.Renew]. At a logout, set session.Options.MaxAge
// to -1. Without the middleware, check the errors of [Store.Get] and call [Store.Save] before the
// response is written. [New] returns a store on a collection that the application has already.
//
// # What is stored
//
// One session is one document. The cookie holds the session's ID, signed. The database holds
// only the SHA-256 of the ID, so read access to it is not enough to use a session. A value is
// stored as ordinary BSON if decoding the BSON returns the same Go value. Types in [Config.Types] are
// stored as documents. Other types of the application are stored by [encoding/gob].
//
// # Concurrent requests
//
// [Store.Save] writes only the keys that the request has changed. For an unchanged session it
// writes nothing, unless the expiry has to move. Concurrent changes of different keys are all
// kept. If two requests change one key, the later one wins, or fails: see [Config.OnConflict]. A
// session that has ended cannot be saved: Save returns [ErrGone].
//
// # Errors
//
// If MongoDB does not respond within [Config.Timeout], the error is [ErrUnavailable]. The cookie
// and the session are kept, so the user is still logged in when MongoDB responds again. A [Store.Save]
// that ends a session succeeds nevertheless, and the deletion is retried in the background. If the
// stored session cannot be decoded, the error is [ErrCorrupt]: see [Config.OnCorrupt].
//
// # Expiry
//
// A session ends when it has not been used for as long as its MaxAge (see [Config.IdleTimeout] and
// [Config.BrowserTTL]), and at the latest after [Config.AbsoluteTimeout]. Saving a session counts
// as use. Loading it does not. The times are in the document and are checked at each load. Expired
// documents are deleted in the background: see [Cleanup].
//
// # Users and devices
//
// With [Config.OwnerKey], [Store.Sessions] lists the sessions of a user, [Store.Revoke] ends one
// and [Store.RevokeAll] all of them. [Store.Watch] reports sessions that end in any process.
// Web sockets and jobs load sessions by ID: [Store.Fetch], [Store.Persist], [Store.Touch].
//
// Pages about migration, errors, testing, security and operations are in
// https://github.com/mongostore/mongostore/tree/main/docs.
package mongostore
