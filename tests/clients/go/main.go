// go-redis against kvs-server: check HOST:PORT [PASSWORD]. Ends with an error at the first thing that is not as it should be.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

var background = context.Background()

// Ends the program when something is not as it should be.
func must(good bool, what string, found any) {
	if !good {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, found)
		os.Exit(1)
	}
}

// The value of a command that must go well.
func value[T any](found T, err error) T {
	must(err == nil, "an error", err)
	return found
}

func refused(err error, words string) {
	must(err != nil && strings.Contains(err.Error(), words), "no error with "+words, err)
}

func all() string {
	bytes := make([]byte, 256)
	for place := range bytes {
		bytes[place] = byte(place)
	}
	return string(bytes)
}

// Whether a key had no value and has this one now. The client's own SetNX sends SETNX, which is another command.
func setMissing(client *redis.Client, key, text string) bool {
	err := client.SetArgs(background, key, text, redis.SetArgs{Mode: "NX"}).Err()
	must(err == nil || errors.Is(err, redis.Nil), "SET NX", err)
	return err == nil
}

func commands(client *redis.Client) {
	must(value(client.FlushDB(background).Result()) == "OK", "FLUSHDB", "")
	must(value(client.Ping(background).Result()) == "PONG", "PING", "")
	must(value(client.Echo(background, "a\r\n").Result()) == "a\r\n", "ECHO", "")
	must(errors.Is(client.Get(background, "nobody").Err(), redis.Nil), "GET of nobody", "")
	must(value(client.Set(background, all(), all(), 0).Result()) == "OK", "SET", "")
	must(value(client.Get(background, all()).Result()) == all(), "GET of all bytes", "")
	must(value(client.StrLen(background, all()).Result()) == 256, "STRLEN", "")
	must(setMissing(client, "k", "1"), "SET NX", "")
	must(!setMissing(client, "k", "2"), "SET NX again", "")
	must(value(client.SetXX(background, "k", "3", 0).Result()), "SET XX", "")
	must(value(client.SetArgs(background, "k", "4", redis.SetArgs{Get: true}).Result()) == "3", "SET GET", "")
	must(value(client.GetDel(background, "k").Result()) == "4", "GETDEL", "")
	must(errors.Is(client.GetDel(background, "k").Err(), redis.Nil), "GETDEL again", "")
	must(value(client.MSet(background, "a", "1", "b", "2").Result()) == "OK", "MSET", "")
	values := value(client.MGet(background, "a", "nobody", "b").Result())
	must(slices.Equal(values, []any{"1", nil, "2"}), "MGET", values)
	must(value(client.Exists(background, "a", "b", "nobody").Result()) == 2, "EXISTS", "")
	must(value(client.Del(background, "a", "b", "nobody").Result()) == 2, "DEL", "")
	must(value(client.DBSize(background).Result()) == 1, "DBSIZE", "")
	refused(client.Set(background, "larger", strings.Repeat("x", 1_048_577), 0).Err(), "larger than the limit")
	refused(client.Incr(background, "n").Err(), "unknown command 'incr'")
	refused(client.Do(background, "get").Err(), "wrong number of arguments")
	must(strings.Contains(value(client.Info(background, "server").Result()), "engine:kvs"), "INFO", "")
	must(value(client.ConfigGet(background, "appendonly").Result())["appendonly"] == "yes", "CONFIG GET", "")
	must(value(client.ClientID(background).Result()) > 0, "CLIENT ID", "")
	table := value(client.Command(background).Result())
	must(table["get"] != nil && table["get"].ReadOnly, "COMMAND", table)
}

func pipelines(client *redis.Client) {
	answers := value(client.Pipelined(background, func(pipe redis.Pipeliner) error {
		for number := range 1000 {
			pipe.Set(background, "n", number, 0)
			pipe.Get(background, "n")
		}
		return nil
	}))
	for place, answer := range answers {
		if get, ok := answer.(*redis.StringCmd); ok {
			must(get.Val() == fmt.Sprint(place/2), "a GET in a pipeline", get)
		}
	}
	_, err := client.TxPipelined(background, func(pipe redis.Pipeliner) error { return pipe.Set(background, "n", 1, 0).Err() })
	refused(err, "unknown command")
}

func scans(client *redis.Client) {
	for number := range 1000 {
		must(client.Set(background, fmt.Sprintf("user:%d", number), "v", 0).Err() == nil, "SET", number)
	}
	seen := map[string]bool{}
	keys := client.Scan(background, 0, "user:*", 70).Iterator()
	for keys.Next(background) {
		must(!seen[keys.Val()], "a key came twice", keys.Val())
		seen[keys.Val()] = true
	}
	must(keys.Err() == nil && len(seen) == 1000, "SCAN", len(seen))
}

// Many goroutines on one pool of connections: one of them wins a key that is missing.
func winners(client *redis.Client) {
	var wins atomic.Int32
	var workers sync.WaitGroup
	for number := range 16 {
		workers.Go(func() {
			for round := range 50 {
				key := fmt.Sprintf("%d/%d", number, round)
				must(client.Set(background, key, number, 0).Err() == nil, "SET", key)
				must(value(client.Get(background, key).Int()) == number, "GET", key)
			}
			if setMissing(client, "lock", fmt.Sprint(number)) {
				wins.Add(1)
			}
		})
	}
	workers.Wait()
	must(wins.Load() == 1, "winners of one key", wins.Load())
}

func main() {
	password := ""
	if len(os.Args) > 2 {
		password = os.Args[2]
	}
	// It greets in protocol 3 unless told otherwise; the server speaks both.
	for _, protocol := range []int{3, 2} {
		client := redis.NewClient(&redis.Options{Addr: os.Args[1], Password: password, Protocol: protocol})
		for _, part := range []func(*redis.Client){commands, pipelines, scans, winners} {
			part(client)
		}
		must(client.FlushDB(background).Err() == nil && client.Close() == nil, "the end", protocol)
	}
	fmt.Printf("go-redis %s: all well\n", redis.Version())
}
