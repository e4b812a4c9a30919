package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

const (
	mongoPort  = "27017/tcp"
	replicaSet = "rs0"

	// Limits for Docker: for the daemon to answer, for a registry to send the
	// first word, and then the next, for a container's server to be ready, for
	// a container to be removed.
	daemonTime  = 5 * time.Second
	pullStart   = 20 * time.Second
	pullSilence = time.Minute
	bootTime    = time.Minute
	removeTime  = 10 * time.Second

	// containerLife is the longest that a container lives. It is removed much
	// earlier, by Stop; but even if this process is killed, it will not stay.
	containerLife = time.Hour
)

// startContainer runs the image and returns its server.
func startContainer(ctx context.Context, image string) (*Server, error) {
	if image == "" {
		image = defaultImage
	}
	pool, err := dockertest.NewPool("")
	if err != nil {
		return nil, fmt.Errorf("mongotest: docker: %w", err)
	}
	if err := pingDaemon(ctx, pool.Client); err != nil {
		return nil, fmt.Errorf("mongotest: docker: %w", err)
	}
	command, isMongod, err := ensureImage(ctx, pool.Client, image)
	if err != nil {
		return nil, fmt.Errorf("mongotest: docker image %s: %w", image, err)
	}
	resource, err := runContainer(pool, image, command)
	if err != nil {
		return nil, fmt.Errorf("mongotest: docker image %s: %w", image, err)
	}
	s := &Server{
		uri:  containerURI(pool, resource),
		stop: func(ctx context.Context) error { return remove(ctx, pool, resource) },
	}
	// Nobody need wait for a server that will never answer.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		code, err := pool.Client.WaitContainerWithContext(resource.Container.ID, ctx)
		var gone *docker.NoSuchContainer
		switch {
		case err == nil:
			cancel(fmt.Errorf("the container ended with exit code %d", code))
		case errors.As(err, &gone): // and removed itself before it could be asked
			cancel(errors.New("the container ended at once"))
		}
	}()
	if isMongod {
		if err := s.initiate(ctx); err != nil {
			err = fmt.Errorf("mongotest: docker image %s: replica set: %w", image, withCause(ctx, err))
			return nil, errors.Join(err, s.stop(context.WithoutCancel(ctx)))
		}
	}
	return s.whenReady(ctx, "docker image "+image, bootTime)
}

func pingDaemon(ctx context.Context, client *docker.Client) error {
	ctx, cancel := context.WithTimeout(ctx, daemonTime)
	defer cancel()
	return client.PingWithContext(ctx)
}

// ensureImage pulls the image unless it is here, and returns the arguments with
// which to run it, and whether it runs mongod.
//
// Only mongod is given arguments; any other image is run as it is. An image
// runs mongod if its command line names it, as those of "mongo"
// (docker-entrypoint.sh mongod) and "mongodb/mongodb-community-server" do.
func ensureImage(ctx context.Context, client *docker.Client, name string) (command []string, isMongod bool, err error) {
	image, err := client.InspectImage(name)
	if errors.Is(err, docker.ErrNoSuchImage) {
		if err = pull(ctx, client, name); err == nil {
			image, err = client.InspectImage(name)
		}
	}
	if err != nil || image.Config == nil {
		return nil, false, err
	}
	line := slices.Concat(image.Config.Entrypoint, image.Config.Cmd)
	if !slices.ContainsFunc(line, func(arg string) bool { return path.Base(arg) == "mongod" }) {
		return nil, false, nil
	}
	return slices.Concat(image.Config.Cmd, []string{"--replSet", replicaSet, "--bind_ip_all"}), true, nil
}

// pull gives up when the registry is silent for too long, so that a machine
// without one finds out soon.
func pull(ctx context.Context, client *docker.Client, name string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(pullStart, func() { cancel(errors.New("no answer from the registry")) })
	defer silence.Stop()

	repository, tag := splitImage(name)
	err := client.PullImage(docker.PullImageOptions{
		Repository:   repository,
		Tag:          tag,
		OutputStream: progress{silence},
		Context:      ctx,
	}, docker.AuthConfiguration{})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("pull: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	return nil
}

// progress is told of a pull's progress.
type progress struct{ silence *time.Timer }

func (p progress) Write(b []byte) (int, error) {
	p.silence.Reset(pullSilence)
	return len(b), nil
}

// splitImage splits "repository:tag" or "repository@digest" the way dockertest
// joins it, with a colon; so the first half of a digest counts as repository.
func splitImage(name string) (repository, tag string) {
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		return name[:i], name[i+1:]
	}
	return name, "latest"
}

// runContainer starts a container that removes itself when it ends.
func runContainer(pool *dockertest.Pool, image string, command []string) (*dockertest.Resource, error) {
	bind := "127.0.0.1"
	if daemonHost(pool) != "" {
		bind = "" // the port must be open to this machine
	}
	name := "mongotest-" + strings.ToLower(rand.Text())
	repository, tag := splitImage(image)
	resource, err := pool.RunWithOptions(&dockertest.RunOptions{
		Name:         name,
		Repository:   repository,
		Tag:          tag,
		Cmd:          command,
		ExposedPorts: []string{mongoPort},
		PortBindings: map[docker.Port][]docker.PortBinding{mongoPort: {{HostIP: bind}}},
	}, func(hc *docker.HostConfig) { hc.AutoRemove = true })
	if err != nil {
		// One that could not be started does not remove itself.
		return nil, errors.Join(err, pool.RemoveContainerByName(name))
	}
	// Expire asks the daemon at once to stop the container, but to be patient
	// before it kills: the stop signal is one that every program ignores
	// (dockertest sets SIGWINCH). From then on it is the daemon's affair, and
	// no longer depends on this process.
	_ = resource.Expire(uint(containerLife.Seconds())) // always nil
	return resource, nil
}

// daemonHost returns the name of the machine of the daemon, if it is reached
// over the network.
func daemonHost(pool *dockertest.Pool) string {
	u, err := url.Parse(pool.Client.Endpoint())
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// containerURI returns the connection string of the server in the container.
//
// The member of the replica set calls itself by a name that means nothing
// outside of the container, so the driver must not go by it: hence the direct
// connection. Retryable writes and transactions work nevertheless, since the
// driver decides on them by what the server says it is.
func containerURI(pool *dockertest.Pool, resource *dockertest.Resource) string {
	host := cmp.Or(daemonHost(pool), "127.0.0.1")
	uri := url.URL{
		Scheme:   "mongodb",
		Host:     net.JoinHostPort(host, resource.GetPort(mongoPort)),
		Path:     "/",
		RawQuery: "directConnection=true",
	}
	return uri.String()
}

// remove removes the container, or waits until it has removed itself.
func remove(ctx context.Context, pool *dockertest.Pool, resource *dockertest.Resource) error {
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		err := pool.Purge(resource)
		var gone *docker.NoSuchContainer
		if err == nil || errors.As(err, &gone) {
			return nil
		}
		var refused *docker.Error
		if !errors.As(err, &refused) || refused.Status != http.StatusConflict { // being removed
			return fmt.Errorf("mongotest: docker: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("mongotest: docker: %w", err)
		case <-poll.C:
		}
	}
}

// initiate makes mongod the primary of a replica set of one.
func (s *Server) initiate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	return s.connected(ctx, func(client *mongo.Client) error {
		admin := client.Database("admin")
		// The member's name must be one under which mongod reaches itself.
		config := bson.D{{Key: "_id", Value: replicaSet}, {Key: "members", Value: bson.A{
			bson.D{{Key: "_id", Value: 0}, {Key: "host", Value: "localhost:27017"}},
		}}}
		if err := admin.RunCommand(ctx, bson.D{{Key: "replSetInitiate", Value: config}}).Err(); err != nil {
			return err
		}
		// It elects itself within moments.
		poll := time.NewTicker(50 * time.Millisecond)
		defer poll.Stop()
		for {
			var hello struct {
				Primary bool `bson:"isWritablePrimary"`
			}
			if err := admin.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
				return err
			}
			if hello.Primary {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("no primary: %w", ctx.Err())
			case <-poll.C:
			}
		}
	})
}
