package mongostore_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mongostore/mongostore/internal/storetest"
)

// The standards, item by item: who meets it, how, and what shows it. The page
// docs/standards.md is made of this table:
//
//	go test -run TestStandards -update

var update = flag.Bool("update", false, "write the pages that tests make anew")

const standardsPage = "docs/standards.md"

// party is who has to meet an item.
type party string

const (
	byStore       party = "store"
	byApplication party = "application"
	byBoth        party = "both"
	byNobody      party = "not applicable"
)

// requirement is an item of a standard.
type requirement struct {
	item  string
	asks  string // in our words
	who   party
	how   string   // names in backquotes that begin with a type of ours are checked
	tests []string // "Test", or "Test/the name of a subtest"
}

type standard struct {
	title string
	about string
	items []requirement
}

var standards = []standard{
	{
		title: "OWASP ASVS 5.0.0, V7: session management",
		about: "[The standard](https://owasp.org/www-project-application-security-verification-standard/) of May 2025. In brackets its level. V7.6, on federation, is about identity providers and those that rely on them, and not about a store.",
		items: []requirement{
			{
				item: "7.1.1 (L2)", asks: "The idle timeout and the longest lifetime are documented, suit the other controls, and differences from NIST SP 800-63B are justified.",
				who: byApplication, how: "Choose and document `Options.MaxAge` (the idle timeout), `Config.BrowserTTL` (the same for cookies that end with the browser) and `Config.AbsoluteTimeout`. The defaults, 30 days, 24 hours and no limit, suit a shop window and need that justification for anything more.",
			},
			{
				item: "7.1.2 (L2)", asks: "How many sessions an account may have at once is documented, and what happens beyond that.",
				who: byApplication, how: "There is no limit of the store's. To have one, count `Store.Sessions` at login and end the oldest with `Store.Revoke`.",
			},
			{
				item: "7.1.3 (L2)", asks: "Systems that share sessions in a federation are documented, with how lifetimes and ends are coordinated.",
				who: byApplication, how: "What an identity provider ends, the application ends here with `Store.RevokeAll`.",
			},
			{
				item: "7.2.1 (L1)", asks: "Tokens are verified by a trusted service of the backend.",
				who: byStore, how: "The signature is verified first, then the document is looked up in the database, at every load.",
				tests: []string{"TestLoading/cookie that fails the signature", "TestLoading/unknown ID, properly signed", "TestLoading/document missing", "TestIDIsTakenFromTheCookieAlone"},
			},
			{
				item: "7.2.2 (L1)", asks: "Tokens are generated for each session, not fixed secrets.",
				who: byStore, how: "Each session has an ID of its own, made when it is first stored; an ID that the application sets is replaced.",
				tests: []string{"TestRandomIDs", "TestSaving/given another ID by the application", "TestSaving/new, and given an ID by the application"},
			},
			{
				item: "7.2.3 (L1)", asks: "Reference tokens are unique and have at least 128 bits from a CSPRNG.",
				who: byStore, how: "256 bits of `crypto/rand`. A session is inserted, never upserted, so an ID cannot be used twice.",
				tests: []string{"TestRandomIDs", "TestIDs", "TestSaving/new"},
			},
			{
				item: "7.2.4 (L1)", asks: "A login or reauthentication gives a new token and ends the one before.",
				who: byBoth, how: "The application calls `Store.Renew` in the place of `Store.Save`. When it returns nil, the old ID is dead in every process.",
				tests: []string{"TestRenew", "TestRenewNew", "TestRenewUnderFire", "TestRenewalAnswersLost", "TestFrozenWhileRenewed", "TestEndedEverywhere/Renew, of the old ID"},
			},
			{
				item: "7.3.1 (L2)", asks: "There is an idle timeout, as the risk demands.",
				who: byBoth, how: "The application sets `Options.MaxAge` or `Config.BrowserTTL`, and saves the session in each request that counts as use. The expiry stands in the document and is checked at every load.",
				tests: []string{"TestTimeouts/idle", "TestTimeouts/idle, used", "TestTimeouts/browser session", "TestTouchIsThrottled", "TestLoading/document expired"},
			},
			{
				item: "7.3.2 (L2)", asks: "There is a longest lifetime, as the risk demands.",
				who: byBoth, how: "The application sets `Config.AbsoluteTimeout`; there is none by default. Neither use nor `Store.Renew` prolongs it.",
				tests: []string{"TestAbsoluteTimeout", "TestTimeouts/absolute", "TestTimeouts/absolute, remembered"},
			},
			{
				item: "7.4.1 (L1)", asks: "A session that was ended, by logout or by time, is of no further use; it is ended in the backend.",
				who: byBoth, how: "The application saves the session with a negative MaxAge, which deletes the document. A late request cannot bring it back: `ErrGone`. If the database fails just then, the session is dead for this process at once, and for others when the deletion, which is repeated, has succeeded. A logout at the very moment of a renewal may miss the renewed session: see `Store.Renew`.",
				tests: []string{"TestEndedEverywhere/logout", "TestEndedEverywhere/expiry", "TestLogoutUnderFire", "TestFailedRemoval", "TestRemovalOutlivesRequest", "TestLogoutThenFailingRenewal"},
			},
			{
				item: "7.4.2 (L1)", asks: "All sessions of an account end when it is disabled or deleted.",
				who: byBoth, how: "The application sets `Config.OwnerKey` and calls `Store.RevokeAll`.",
				tests: []string{"TestRevokeAll", "TestEndedEverywhere/RevokeAll", "TestOwnersThatLookAlike"},
			},
			{
				item: "7.4.3 (L2)", asks: "After a change of a password or another factor the user may end all other sessions.",
				who: byBoth, how: "The application offers it, and calls `Store.RevokeAll` with the session that is to stay.",
				tests: []string{"TestRevokeAll"},
			},
			{
				item: "7.4.4 (L2)", asks: "Every page behind a login shows the way to the logout.",
				who: byApplication, how: "Its handler saves the session with a negative MaxAge.",
			},
			{
				item: "7.4.5 (L2)", asks: "Administrators can end the sessions of one user or of all.",
				who: byBoth, how: "The application offers it to them: `Store.RevokeAll` for one user; for all, the documents of the collection are deleted, with `deleteMany({})`.",
				tests: []string{"TestEndedEverywhere/RevokeAll", "TestEndedEverywhere/deletion in the database", "TestEndedEverywhere/the collection dropped"},
			},
			{
				item: "7.5.1 (L2)", asks: "Changes of what authentication rests on (mail address, telephone number, factors) need full reauthentication.",
				who: byApplication, how: "Keep the time of the last authentication in the session's values, and call `Store.Renew` after each.",
			},
			{
				item: "7.5.2 (L2)", asks: "Users can see their sessions and, after authenticating again, end any of them or all.",
				who: byBoth, how: "The application shows `Store.Sessions` and asks for the authentication; `Store.Revoke` and `Store.RevokeAll` end them.",
				tests: []string{"TestSessions", "TestRevoke", "TestRevokeAll", "TestManySessions"},
			},
			{
				item: "7.5.3 (L3)", asks: "Highly sensitive transactions need a further factor or a second verification.",
				who: byApplication, how: "As for 7.5.1.",
			},
		},
	},
	{
		title: "OWASP ASVS 5.0.0, V3.3: cookie setup",
		items: []requirement{
			{
				item: "3.3.1 (L1)", asks: "Cookies are Secure, and named with `__Host-` or else with `__Secure-`.",
				who: byBoth, how: "Secure is the default, also when the cookie is removed. The application gives the session such a name; options that contradict it are an error at `Store.Save`, where browsers would drop the cookie in silence.",
				tests: []string{"TestEverySetCookie", "TestCookieDefaults", "TestCookieRefused"},
			},
			{
				item: "3.3.2 (L2)", asks: "Each cookie's SameSite suits its purpose, against forged requests.",
				who: byBoth, how: "Lax is the default. The application may set Strict in `Config.Options`.",
				tests: []string{"TestEverySetCookie", "TestCookieOptions"},
			},
			{
				item: "3.3.3 (L2)", asks: "Cookies are named with `__Host-`, unless other hosts are to have them.",
				who: byBoth, how: "The application names its session so, as in `store.Get(r, \"__Host-id\")`; the default options are those that the prefix demands.",
				tests: []string{"TestEverySetCookie", "TestCookieRefused"},
			},
			{
				item: "3.3.4 (L2)", asks: "A session's cookie is HttpOnly, and its value reaches the browser by Set-Cookie only.",
				who: byBoth, how: "HttpOnly is the default, and the store writes the ID nowhere else in a response. The application keeps `Session.ID` out of pages, URLs and scripts; `Info.Key` is no secret and can stand there.",
				tests: []string{"TestEverySetCookie", "TestCookieDefaults"},
			},
			{
				item: "3.3.5 (L3)", asks: "Name and value of a cookie have 4096 bytes at most.",
				who: byStore, how: "The cookie holds the ID alone, however large the session is; a name that is too long is an error at `Store.Save`.",
				tests: []string{"TestEverySetCookie", "TestCookieRefused", "TestSaving/larger than the 4096 bytes of a cookie"},
			},
		},
	},
	{
		title: "OWASP ASVS 5.0.0, single items of V11 and V16",
		items: []requirement{
			{
				item: "11.5.1 (L2)", asks: "What must not be guessed comes from a CSPRNG and has at least 128 bits.",
				who: byBoth, how: "IDs have 256 bits of `crypto/rand`, which no other generator stands in for. The application makes its keys in the same way, such as with `securecookie.GenerateRandomKey(32)`; a signing key of less than 32 bytes is a warning.",
				tests: []string{"TestRandomIDs", "TestShortKey", "TestRefusedAtConstruction"},
			},
			{
				item: "16.2.5 (L2)", asks: "Logs hold sensitive data only as its protection allows; session tokens at most hashed or masked.",
				who: byBoth, how: "No error and no log line of the store holds an ID, a cookie, a value, a key, or the words of a server that quotes them. The application logs neither `Session.ID` nor values; `Info.Key`, a hash, identifies a session.",
				tests: []string{"TestNothingConfidentialIsTold", "TestErrorsAreDiscreet", "TestUnencodableValues"},
			},
		},
	},
	{
		title: "NIST SP 800-63B-4, section 5: session management",
		about: "[The guidelines](https://pages.nist.gov/800-63-4/sp800-63b/session/) of July 2025. Numbers in brackets are those of the section's lists. What only permits or explains something has no row, unless a store helps with it.",
		items: []requirement{
			{
				item: "5.1, secret (SHALL)", asks: "The two ends share a secret, which the user's software presents.",
				who: byStore, how: "The signed ID in the cookie.",
				tests: []string{"TestLoading/document alive", "TestLoading/no cookie", "TestIDIsTakenFromTheCookieAlone"},
			},
			{
				item: "5.1, continuity (SHALL)", asks: "A session goes on by possession of a secret that was issued at authentication.",
				who: byBoth, how: "`Store.Renew` at the login issues it; what a visitor had before is worth nothing then.",
				tests: []string{"TestRenew", "TestEndedEverywhere/Renew, of the old ID"},
			},
			{
				item: "5.1, persistence (SHOULD NOT)", asks: "Secrets do not outlast a restart of the browser.",
				who: byBoth, how: "The application sets `Options.MaxAge` to 0; the default is a cookie of 30 days. On the server `Config.BrowserTTL` ends such a session.",
				tests: []string{"TestSaving/MaxAge == 0", "TestTimeouts/browser session"},
			},
			{
				item: "5.1, remembered browsers (SHALL NOT)", asks: "A cookie that remembers a browser does not take the place of authentication.",
				who: byApplication, how: "A long MaxAge prolongs a session. Whether it is authenticated, and since when, is for the application to keep in its values.",
			},
			{
				item: "5.1, origin (SHALL)", asks: "The host of the session makes the secret, in direct response to an authentication.",
				who: byBoth, how: "The application calls `Store.Renew` at the login. IDs that come from outside are never taken on.",
				tests: []string{"TestLoading/unknown ID, properly signed", "TestSaving/given another ID by the application", "TestRenewNew"},
			},
			{
				item: "5.1, assurance level (SHALL NOT)", asks: "A session does not count as of a higher level than its authentication.",
				who: byApplication, how: "Keep the level in the session's values, set with `Store.Renew`.",
			},
			{
				item: "5.1 (1) (SHALL)", asks: "The secret is established during or right after authentication.",
				who: byBoth, how: "As for continuity.",
				tests: []string{"TestRenew", "TestRenewNew"},
			},
			{
				item: "5.1 (2) (SHALL)", asks: "It comes from an approved random bit generator and has at least 64 bits.",
				who: byBoth, how: "256 bits of `crypto/rand`. Where the generator has to be an approved one, the application is built and run in Go's FIPS 140-3 mode.",
				tests: []string{"TestRandomIDs"},
			},
			{
				item: "5.1 (3) (SHALL)", asks: "The user's side erases it, or makes it invalid, at logout.",
				who: byStore, how: "The logout's response has the browser delete the cookie, with the attributes that it was set with, also when the database fails.",
				tests: []string{"TestEverySetCookie", "TestSaving/MaxAge < 0", "TestFailedRemoval"},
			},
			{
				item: "5.1 (4) (SHALL)", asks: "It travels over an authenticated, protected channel.",
				who: byBoth, how: "The application serves HTTPS. The cookie is Secure by default.",
				tests: []string{"TestCookieDefaults", "TestEverySetCookie"},
			},
			{
				item: "5.1 (5) (SHALL)", asks: "It is not accepted beyond the times of the assurance level.",
				who: byBoth, how: "The application sets the times: at AAL1 30 days in all; at AAL2 24 hours, and 1 hour idle; at AAL3 12 hours, and 15 minutes idle (sections 2.1.3, 2.2.3, 2.3.3).",
				tests: []string{"TestTimeouts", "TestAbsoluteTimeout", "TestEndedEverywhere/expiry"},
			},
			{
				item: "5.1 (6) (SHALL)", asks: "Nobody between the two ends can have it.",
				who: byBoth, how: "TLS is the application's. The database holds a hash of the ID, so neither those who read it nor its backups and logs have one that works.",
				tests: []string{"TestDocument", "TestFetchRefused", "TestNothingConfidentialIsTold"},
			},
			{
				item: "5.1, erasure (SHOULD)", asks: "The user's side erases it at logout and when it has expired.",
				who: byStore, how: "The cookie is deleted at logout, and its Max-Age is the session's.",
				tests: []string{"TestEverySetCookie", "TestCookieIsGorillas"},
			},
			{
				item: "5.1, place (SHOULD NOT)", asks: "It is not kept where scripts can read it, such as local storage.",
				who: byBoth, how: "HttpOnly is the default. The application hands `Session.ID` to no script.",
				tests: []string{"TestCookieDefaults", "TestEverySetCookie"},
			},
			{
				item: "5.1, transport (SHALL NOT)", asks: "After the authentication a session does not fall back to plain HTTP.",
				who: byBoth, how: "The application redirects and sets HSTS. A Secure cookie is not sent over plain HTTP.",
				tests: []string{"TestEverySetCookie"},
			},
			{
				item: "5.1, forged requests (SHALL)", asks: "POST and PUT carry an identifier of the session that is verified, against CSRF.",
				who: byApplication, how: "Such as with gorilla/csrf, or with a random token in the session's values.",
			},
			{
				item: "5.1, logoff (SHOULD)", asks: "Users find a way to end their session.",
				who: byApplication, how: "Its handler saves the session with a negative MaxAge.",
			},
			{
				item: "5.1.1 (1) (SHALL)", asks: "The cookie is for HTTPS only.",
				who: byStore, how: "By default.",
				tests: []string{"TestCookieDefaults", "TestEverySetCookie"},
			},
			{
				item: "5.1.1 (2) (SHALL)", asks: "It goes to as few hosts and paths as is practical.",
				who: byBoth, how: "No Domain by default, so to this host alone. The Path is /, as (5) wants it; the application may narrow it, without the prefix.",
				tests: []string{"TestCookieDefaults", "TestCookieOptions"},
			},
			{
				item: "5.1.1 (3) (SHOULD)", asks: "It is HttpOnly.",
				who: byStore, how: "By default.",
				tests: []string{"TestCookieDefaults", "TestEverySetCookie"},
			},
			{
				item: "5.1.1 (4) (SHOULD; SHALL NOT)", asks: "It expires about when the session does, and this is not what the timeouts rest on.",
				who: byBoth, how: "Its Max-Age is the session's, but knows nothing of `Config.AbsoluteTimeout`: the application sets `Options.MaxAge` to no more than that. The timeouts rest on the document.",
				tests: []string{"TestTimeouts", "TestCookieIsGorillas"},
			},
			{
				item: "5.1.1 (5) (SHOULD)", asks: "It has the prefix `__Host-` and the path /.",
				who: byBoth, how: "The application chooses the name. The path is the default.",
				tests: []string{"TestEverySetCookie", "TestCookieRefused"},
			},
			{
				item: "5.1.1 (6) (SHOULD)", asks: "SameSite is Lax or Strict.",
				who: byStore, how: "Lax by default.",
				tests: []string{"TestCookieDefaults", "TestEverySetCookie"},
			},
			{
				item: "5.1.1 (7) (SHOULD; SHALL NOT)", asks: "It holds an opaque string, and nothing personal in clear.",
				who: byStore, how: "The random ID, signed; encrypted as well, if there is a block key.",
				tests: []string{"TestEverySetCookie", "TestCookieIsEncrypted"},
			},
			{
				item: "5.1.2 (SHALL NOT)", asks: "An OAuth access token is no sign that the user is there.",
				who: byApplication, how: "A session may hold such tokens as values; `Config.SealKeys` encrypts them in the database.",
			},
			{
				item: "5.2, reauthentication (SHALL)", asks: "Sessions are reauthenticated from time to time.",
				who: byApplication, how: "When a timeout has ended the session, the next request has a new one, without values: the application asks for the login.",
			},
			{
				item: "5.2, timeouts (SHALL)", asks: "When the overall or the idle timeout is over, the session is ended.",
				who: byBoth, how: "As for 5.1 (5).",
				tests: []string{"TestTimeouts", "TestAbsoluteTimeout"},
			},
			{
				item: "5.2, activity (SHALL)", asks: "Activity begins the idle timeout anew.",
				who: byBoth, how: "A save does, up to `Config.TouchInterval` late. The application saves in each request that counts as activity.",
				tests: []string{"TestTimeouts/idle, used", "TestTouchIsThrottled", "TestSaving/unchanged, due"},
			},
			{
				item: "5.2, both anew (SHALL)", asks: "A reauthentication begins both timeouts anew.",
				who: byBoth, how: "`Store.Renew` keeps the time of creation, and so the overall timeout. To begin that anew as well, the application calls `Store.Remove`, then `Store.New`, copies what is to stay, and saves.",
				tests: []string{"TestReauthenticationBeginsAnew", "TestRenew"},
			},
			{
				item: "5.2, limits (SHALL)", asks: "The limits are set and documented.",
				who: byApplication, how: "As for ASVS 7.1.1.",
			},
			{
				item: "5.2, alert (MAY)", asks: "The user is warned before a timeout.",
				who: byApplication, how: "`Info.ExpiresAt` says when a session ends, if it is not used again.",
			},
			{
				item: "5.2, federation", asks: "Sessions at the provider and at the relying party end independently.",
				who: byApplication, how: "It decides whether the provider's word is recent enough, and calls `Store.Renew`, or ends the session.",
			},
			{
				item: "5.3, monitoring (MAY)", asks: "Devices, addresses, places and behaviour are watched for fraud.",
				who: byApplication, how: "`Config.Describe` keeps with a session what the request told; `Store.Sessions` shows it.",
			},
			{
				item: "5.3, reaction (SHOULD)", asks: "On suspicion the session is reauthenticated or ended, or somebody told.",
				who: byBoth, how: "The application decides; `Store.Revoke` ends one session, `Store.RevokeAll` all of a user.",
				tests: []string{"TestRevoke", "TestRevokeAll"},
			},
			{
				item: "5.3, privacy (SHALL)", asks: "What is collected for it is part of the assessment of privacy.",
				who: byApplication, how: "What `Config.Describe` tells is stored in clear, also with `Config.SealKeys`, and goes with its session.",
			},
		},
	},
	{
		title: "OWASP Session Management Cheat Sheet",
		about: "[A living document](https://cheatsheetseries.owasp.org/cheatsheets/Session_Management_Cheat_Sheet.html); these are its headings when this was written.",
		items: []requirement{
			{
				item: "Session ID Name Fingerprinting", asks: "The cookie's name does not tell what software set it.",
				who: byApplication, how: "There is no name by default: the application gives one to `Store.Get`, such as `__Host-id`.",
			},
			{
				item: "Session ID Entropy", asks: "At least 64 bits, from a CSPRNG.",
				who: byStore, how: "256.", tests: []string{"TestRandomIDs"},
			},
			{
				item: "Session ID Length", asks: "Long enough for that entropy, with no fixed part.",
				who: byStore, how: "43 characters, all of them random.", tests: []string{"TestRandomIDs", "TestIDs"},
			},
			{
				item: "Session ID Content (or Value)", asks: "It means nothing; what it stands for is on the server, encrypted if sensitive.",
				who: byBoth, how: "The cookie holds random bytes. The application sets `Config.SealKeys` for sensitive values.",
				tests: []string{"TestRandomIDs", "TestEverySetCookie", "TestSealing", "TestSealMoved"},
			},
			{
				item: "Built-in Session Management Implementations", asks: "Proven implementations, kept up to date, whose storage does not disclose IDs.",
				who: byBoth, how: "gorilla's interface and securecookie's signatures. The application keeps its dependencies up to date.",
				tests: []string{"TestDropIn", "TestDocument"},
			},
			{
				item: "Server-Side Session Token Storage", asks: "Who can read the store gets no token that works: it holds a one-way hash.",
				who: byBoth, how: "The document's `_id` is the SHA-256 of the ID, found by equality in an index. The application restricts access to the database and encrypts its backups.",
				tests: []string{"TestDocument", "TestFetchRefused"},
			},
			{
				item: "Used vs. Accepted Session ID Exchange Mechanisms", asks: "IDs are accepted from cookies alone.",
				who: byStore, how: "Nothing else of a request is looked at. (`Store.Fetch` takes an ID from the application, for what has no HTTP.)",
				tests: []string{"TestIDIsTakenFromTheCookieAlone"},
			},
			{
				item: "Transport Layer Security", asks: "HTTPS for the whole session, and HSTS.",
				who: byApplication, how: "The cookie is Secure by default, so a site without HTTPS has no sessions.",
			},
			{
				item: "Secure Attribute", asks: "Set.",
				who: byStore, how: "By default.", tests: []string{"TestCookieDefaults", "TestEverySetCookie"},
			},
			{
				item: "HttpOnly Attribute", asks: "Set.",
				who: byStore, how: "By default.", tests: []string{"TestCookieDefaults", "TestEverySetCookie"},
			},
			{
				item: "SameSite Attribute", asks: "Strict or Lax, said and not left to the browser.",
				who: byStore, how: "Lax by default; Strict with `Config.Options`.", tests: []string{"TestCookieDefaults", "TestCookieOptions", "TestEverySetCookie"},
			},
			{
				item: "Cookie Name Prefixes", asks: "`__Host-` for session IDs.",
				who: byBoth, how: "The application chooses the name; what contradicts it is refused.", tests: []string{"TestCookieRefused", "TestEverySetCookie"},
			},
			{
				item: "Domain and Path Attributes", asks: "No Domain, and a Path as narrow as the application allows.",
				who: byBoth, how: "No Domain by default. The Path is /, which the application may narrow.", tests: []string{"TestCookieDefaults", "TestCookieOptions"},
			},
			{
				item: "Expire and Max-Age Attributes", asks: "Cookies that end with the browser where that is enough; the server enforces the end anyway.",
				who: byBoth, how: "The application sets `Options.MaxAge` to 0; the default is 30 days.", tests: []string{"TestSaving/MaxAge == 0", "TestTimeouts/browser session"},
			},
			{
				item: "HTML5 Web Storage API", asks: "No session ID in local or session storage.",
				who: byApplication, how: "It hands `Session.ID` to no script.",
			},
			{
				item: "Web Workers", asks: "Secrets that scripts need may be kept in a worker.",
				who: byNobody, how: "A session ID is in a cookie that scripts cannot read.",
			},
			{
				item: "Session ID Generation and Verification: Permissive and Strict Session Management", asks: "Only IDs that the server has made are accepted, others give a new session, and an alert.",
				who: byBoth, how: "Strict: an unknown ID is never taken on, properly signed or not. For an alert, the application sees a bad signature as the error of `Store.Get`, and an ID that is unknown or has expired as a new session in a request that has the cookie.",
				tests: []string{"TestLoading/unknown ID, properly signed", "TestLoading/cookie that fails the signature", "TestSaving/new, and given an ID by the application", "TestOneNameInTwoStores"},
			},
			{
				item: "Manage Session ID as Any Other User Input", asks: "IDs are untrusted and validated before use.",
				who: byStore, how: "The signature first, then the alphabet and the length; only the hash, always of 43 characters, reaches the database.",
				tests: []string{"TestLoading/overlong cookie", "TestLoading/cookie of a CookieStore with the same key", "TestFetchRefused", "TestNothingConfidentialIsTold/load, forged cookies"},
			},
			{
				item: "Renew the Session ID After Any Privilege Level Change", asks: "A new ID at login, change of password or role, and the old one destroyed.",
				who: byBoth, how: "The application calls `Store.Renew` at each of them.",
				tests: []string{"TestRenew", "TestRenewUnderFire", "TestRenewForAnotherOwner", "TestEndedEverywhere/Renew, of the old ID"},
			},
			{
				item: "Reauthentication After Risk Events", asks: "After changes of credentials, recovery, or a login from an odd place the user authenticates again.",
				who: byApplication, how: "It ends what it distrusts with `Store.RevokeAll`, or asks, and calls `Store.Renew`.",
			},
			{
				item: "Considerations When Using Multiple Cookies", asks: "Where several cookies make a session all are verified; no cookie name is used for several paths or domains.",
				who: byStore, how: "A session has one cookie. If several of the name arrive, as when one was planted, each counts only with its signature, and a logout ends the sessions of all.",
				tests: []string{"TestLoading/good cookie behind bad ones", "TestLogoutWithTwoCookies", "TestLogoutWithTwoCookiesInAnOutage"},
			},
			{
				item: "Session Expiration", asks: "Sessions expire, on the server and on the client.",
				who: byStore, how: "In the document, and with the cookie's Max-Age.",
				tests: []string{"TestTimeouts", "TestEverySetCookie", "TestEndedEverywhere/expiry"},
			},
			{
				item: "Idle Timeout", asks: "Enforced by the server.",
				who: byBoth, how: "The application sets `Options.MaxAge` or `Config.BrowserTTL`.",
				tests: []string{"TestTimeouts/idle", "TestTimeouts/browser session", "TestTouchIsThrottled", "TestLateSaveAfterShorterLife"},
			},
			{
				item: "Absolute Timeout", asks: "A longest life, whatever the use.",
				who: byBoth, how: "The application sets `Config.AbsoluteTimeout`.",
				tests: []string{"TestTimeouts/absolute", "TestAbsoluteTimeout"},
			},
			{
				item: "Renewal Timeout", asks: "From time to time the ID is renewed in the middle of a session; the old one may live on for a moment.",
				who: byBoth, how: "The application keeps the time of the last renewal in the values and calls `Store.Renew`. The old ID dies at once: requests of the same page that are late with it get a new session, so renew where there is one request, such as a form's.",
				tests: []string{"TestRenew", "TestMoves/with a change meanwhile", "TestFrozenWhileRenewed"},
			},
			{
				item: "Logout Button", asks: "On every page, and it ends the session on the server.",
				who: byBoth, how: "The button is the application's; saving with a negative MaxAge ends the session.",
				tests: []string{"TestEndedEverywhere/logout", "TestSaveAfterTheBody"},
			},
			{
				item: "Web Content Caching and Clear-Site-Data", asks: "Private pages are not cached, and are cleared at logout.",
				who: byApplication, how: "It sets `Cache-Control: no-store` on them, and `Clear-Site-Data` at the logout. The store adds no header but Set-Cookie.",
			},
			{
				item: "Initial Login Timeout", asks: "A login page that was open for long is loaded anew.",
				who: byApplication, how: "With `Store.Renew` at the login it matters less: what was before is worth nothing.",
			},
			{
				item: "Limits of Logout on Browser Close", asks: "The end of the browser is not relied upon.",
				who: byBoth, how: "`Config.BrowserTTL` ends such a session on the server; the application chooses it.",
				tests: []string{"TestTimeouts/browser session"},
			},
			{
				item: "Disable Web Browser Cross-Tab Sessions", asks: "Tabs do not share a session.",
				who: byNobody, how: "Tabs share cookies, as the sheet says itself. Here requests of several tabs at once lose nothing of each other.",
			},
			{
				item: "Automatic Client Logout", asks: "Pages leave by themselves when the idle timeout is over.",
				who: byApplication, how: "A page reloads itself after MaxAge, say.",
			},
			{
				item: "Session ID Guessing and Brute Force Detection", asks: "Many tries of IDs are noticed and stopped.",
				who: byBoth, how: "What is not signed is refused without asking the database. The application counts the errors of `Store.Get` for each address.",
				tests: []string{"TestLoading/cookie that fails the signature", "TestLoading/cookie of another key", "TestIDIsTakenFromTheCookieAlone"},
			},
			{
				item: "Detecting Session ID Anomalies", asks: "Altered cookies and the like are noticed.",
				who: byBoth, how: "An altered cookie is an error of `Store.Get` that securecookie's type tells from others.",
				tests: []string{"TestLoading/cookie that fails the signature", "TestLoading/cookie that another name was signed for"},
			},
			{
				item: "Binding the Session ID to Other User Properties", asks: "A change of address, browser or certificate within a session is noticed.",
				who: byApplication, how: "It keeps what it wants to compare in the values, or has `Config.Describe` show it to the user.",
			},
			{
				item: "Logging Sessions Life Cycle: Monitoring Creation, Usage, and Destruction of Session IDs", asks: "Each creation, renewal and end is logged, with a hash in the place of the ID.",
				who: byApplication, how: "It logs where it calls `Store.Save`, `Store.Renew` and `Store.RevokeAll`. `Info.Key` is a hash of the ID that correlates the lines. The store itself logs what failed, and never an ID.",
			},
			{
				item: "Simultaneous Session Logons", asks: "It is decided whether a user may have several sessions; users see them and can end them.",
				who: byBoth, how: "`Store.Sessions` lists them with `Config.Describe`'s details; `Store.RevokeAll` at the login leaves but one.",
				tests: []string{"TestSessions", "TestRevoke", "TestRevokeAll"},
			},
			{
				item: "Session Management WAF Protections", asks: "A firewall mends what cannot be mended in the application.",
				who: byNobody, how: "It is outside of the application.",
			},
		},
	},
}

// testFunc is a test as its source tells of it.
type testFunc struct {
	file     string
	shows    string          // the first sentence of its comment
	texts    map[string]bool // the strings in it, the names of subtests among them
	subtests bool
	fails    bool // it has a way to
	skips    bool
}

// testFuncs finds the package's tests.
func testFuncs(t *testing.T) map[string]*testFunc {
	t.Helper()
	tests := map[string]*testFunc{}
	for path, file := range storetest.SourceFiles(t, true) {
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			found := &testFunc{file: path, texts: map[string]bool{}}
			comment := new(doc.Package).Synopsis(fn.Doc.Text())
			if shows := strings.TrimLeft(strings.TrimPrefix(comment, fn.Name.Name), ":, "); shows != "" {
				found.shows = strings.ToUpper(shows[:1]) + shows[1:]
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BasicLit:
					if text, err := strconv.Unquote(n.Value); err == nil {
						found.texts[text] = true
					}
				case *ast.SelectorExpr:
					found.subtests = found.subtests || n.Sel.Name == "Run"
					found.fails = found.fails || slices.Contains([]string{"Error", "Errorf", "Fatal", "Fatalf"}, n.Sel.Name)
					found.skips = found.skips || strings.HasPrefix(n.Sel.Name, "Skip")
				case *ast.Ident: // selectors' names as well
					found.fails = found.fails || strings.HasPrefix(n.Name, "want") // helpers that check
					found.skips = found.skips || n.Name == "needsMongoDB"
				}
				return true
			})
			tests[fn.Name.Name] = found
		}
	}
	return tests
}

// exported finds the package's exported names, of methods and fields with their type's.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, file := range storetest.SourceFiles(t, false) {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				name := n.Name.Name
				if n.Recv != nil {
					receiver := n.Recv.List[0].Type
					if star, ok := receiver.(*ast.StarExpr); ok {
						receiver = star.X
					}
					name = fmt.Sprint(receiver) + "." + name
				}
				names[name] = true
				return false
			case *ast.TypeSpec:
				if fields, ok := n.Type.(*ast.StructType); ok {
					for _, field := range fields.Fields.List {
						for _, id := range field.Names {
							names[n.Name.Name+"."+id.Name] = true
						}
					}
				}
			case *ast.ValueSpec:
				for _, id := range n.Names {
					names[id.Name] = true
				}
			}
			return true
		})
	}
	return names
}

var ourName = regexp.MustCompile("`((?:Store|Config|Info)\\.\\w+|Err\\w+)`")

// TestStandards: the table is complete, what it names exists, and the page is made of it.
func TestStandards(t *testing.T) {
	t.Parallel()
	tests, names := testFuncs(t), exported(t)
	seen, numbers := map[string]bool{}, map[string]int{}
	for _, s := range standards {
		for _, q := range s.items {
			if key := s.title + q.item; seen[key] || q.item == "" || q.asks == "" || q.how == "" {
				t.Errorf("%s: there twice, or something is missing", q.item)
			} else {
				seen[key] = true
			}
			if strings.Contains(s.title, "ASVS") {
				number, _, _ := strings.Cut(q.item, " ")
				section := number[:strings.LastIndex(number, ".")]
				numbers[section]++
				if want := fmt.Sprintf("%s.%d", section, numbers[section]); number != want && section[0] != '1' {
					t.Errorf("%s stands where %s should", number, want)
				}
			}
			for _, m := range ourName.FindAllStringSubmatch(q.asks+q.how, -1) {
				if !names[m[1]] {
					t.Errorf("%s: there is no %s", q.item, m[1])
				}
			}
			ours := q.who == byStore || q.who == byBoth
			if ours != (len(q.tests) > 0) {
				t.Errorf("%s is met by %s, and has %d tests", q.item, q.who, len(q.tests))
			}
			everywhere := !ours
			for _, test := range q.tests {
				name, sub, _ := strings.Cut(test, "/")
				found := tests[name]
				switch {
				case found == nil:
					t.Errorf("%s: there is no %s", q.item, name)
					continue
				case sub != "" && !(found.subtests && found.texts[sub]):
					t.Errorf("%s: %s has no subtest %q", q.item, name, sub)
				case !found.fails:
					t.Errorf("%s: %s cannot fail", q.item, name)
				case found.shows == "":
					t.Errorf("%s: %s does not say what it shows", q.item, name)
				}
				everywhere = everywhere || !found.skips
			}
			if !everywhere {
				t.Errorf("%s: every test of it is skipped on some server", q.item)
			}
		}
	}
	if want := map[string]int{"7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 3, "3.3": 5, "11.5": 1, "16.2": 1}; !maps.Equal(numbers, want) {
		t.Errorf("items of the ASVS: %v, want %v", numbers, want)
	}
	if t.Failed() {
		return
	}

	want := renderStandards(tests)
	if *update {
		if err := os.MkdirAll(filepath.Dir(standardsPage), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(standardsPage, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(standardsPage)
	if err != nil {
		t.Fatal(err)
	}
	if got = bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")); !bytes.Equal(got, want) {
		t.Errorf("%s is not what the table says; write it anew with: go test -run TestStandards -update", standardsPage)
	}
}

// renderStandards gives the documentation's page.
func renderStandards(tests map[string]*testFunc) []byte {
	var b bytes.Buffer
	count, used := map[party]int{}, map[string]bool{}
	for _, s := range standards {
		for _, q := range s.items {
			count[q.who]++
			for _, test := range q.tests {
				name, _, _ := strings.Cut(test, "/")
				used[name] = true
			}
		}
	}
	fmt.Fprintf(&b, `<!-- Made of standards_test.go; write it anew with: go test -run TestStandards -update -->

# The standards, item by item

What OWASP and NIST ask of session management, who has to meet it where sessions are
kept by this package, and what shows that it is met. Of %d items the store meets %d, the
application and the store together %d, and the application alone %d; %d do not apply.

- **Store**: met by the package as it comes, with its default settings.
- **Both**: the application has to do its part, which is named; the tests show the store's.
- **Application**: nothing that a store could do; named is what it offers as help.

The items are told in short and in other words than the standards': read those for what
they demand. This page is no certificate, and says nothing of an application.

The page is made of a table in [standards_test.go](../standards_test.go). A test fails if
the page and the table differ, if a test or a name of the package that is mentioned does
not exist, or if an item that the store has a part in has no test that runs on every
server. To see the tests of an item yourself, with nothing but Go:

    go test -run 'TestRenew$' -v .

`, count[byStore]+count[byBoth]+count[byApplication]+count[byNobody], count[byStore], count[byBoth], count[byApplication], count[byNobody])

	cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
	for _, s := range standards {
		fmt.Fprintf(&b, "## %s\n\n", s.title)
		if s.about != "" {
			fmt.Fprintf(&b, "%s\n\n", s.about)
		}
		b.WriteString("| Item | What it asks | Who | How | Tests |\n|---|---|---|---|---|\n")
		for _, q := range s.items {
			var links []string
			last := ""
			for _, test := range q.tests {
				name, sub, _ := strings.Cut(test, "/")
				switch {
				case sub != "" && name == last:
					links[len(links)-1] += "; " + sub
					continue
				case sub != "":
					sub = ": " + sub
				}
				links = append(links, fmt.Sprintf("[%s](#%s)%s", name, strings.ToLower(name), sub))
				last = name
			}
			who := strings.ToUpper(string(q.who[:1])) + string(q.who[1:])
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", cell(q.item), cell(q.asks), who, cell(q.how), cell(strings.Join(links, "<br>")))
		}
		b.WriteString("\n")
	}

	b.WriteString("## The tests\n\nBehind a colon above stand the names of subtests.\n\n| Test | File | What it shows |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(used)) {
		found := tests[name]
		fmt.Fprintf(&b, "| <a name=\"%s\"></a>%s | [%s](../%s) | %s |\n", strings.ToLower(name), name, found.file, found.file, cell(found.shows))
	}
	return b.Bytes()
}
