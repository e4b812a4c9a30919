package mongostore_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

// With SealKeys, who reads the database, or a backup, does not read the values.
func ExampleConfig_sealing() {
	cfg := exampleConfig("sealing")                             // Database and Collection
	cfg.SealKeys = [][]byte{securecookie.GenerateRandomKey(32)} // from where the application keeps its secrets
	ctx := context.Background()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	session := sessions.NewSession(store, "session") // by a request, usually
	session.Values["diagnosis"] = "measles"
	if err := store.Persist(ctx, session); err != nil {
		log.Fatal(err)
	}
	stored, err := cfg.Client.Database(cfg.Database).Collection(cfg.Collection).FindOne(ctx, bson.D{}).Raw()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("in the database:", strings.Contains(string(stored), "measles"))
	session, err = store.Fetch(ctx, "session", session.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("in the session:", session.Values["diagnosis"])
	// Output:
	// in the database: false
	// in the session: measles
}

// Keys that seal are replaced in three steps, each on all processes before the next.
func ExampleConfig_sealingRotation() {
	oldKey, newKey := securecookie.GenerateRandomKey(32), securecookie.GenerateRandomKey(32)
	ctx := context.Background()
	cfg := exampleConfig("sealing_rotation") // Database and Collection

	var id string
	for _, keys := range [][][]byte{
		{oldKey},         // how it was
		{oldKey, newKey}, // 1. what the new key seals can be opened
		{newKey, oldKey}, // 2. and it seals what is written from now on
		{newKey},         // 3. when the sessions from before have ended
	} {
		cfg.SealKeys = keys
		store, err := mongostore.Open(ctx, cfg, signingKey)
		if err != nil {
			log.Fatal(err)
		}
		session := sessions.NewSession(store, "session")
		if id != "" {
			if session, err = store.Fetch(ctx, "session", id); err != nil {
				log.Fatal(err)
			}
		}
		n, _ := session.Values["n"].(int)
		session.Values["n"] = n + 1
		if err := store.Persist(ctx, session); err != nil {
			log.Fatal(err)
		}
		id = session.ID
		fmt.Println(session.Values["n"])
		if err := store.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 1
	// 2
	// 3
	// 4
}
