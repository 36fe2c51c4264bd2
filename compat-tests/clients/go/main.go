// Walks a server with Ollama's own Go client and compares what the tiny model knows by heart.
//
//	go run . BASE_URL
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"

	"github.com/ollama/ollama/api"
)

const (
	model  = "tiny"
	count  = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
	person = `{"name": "Ada", "age": 36, "languages": ["English", "French"]}`
	schema = `{"type": "object", "required": ["name", "age", "languages"], "properties": {"name": {"type": "string"},
		"age": {"type": "integer"}, "languages": {"type": "array", "items": {"type": "string"}}}}`
	tool = `[{"type": "function", "function": {"name": "get_current_weather", "description": "Get the current weather for a location",
		"parameters": {"type": "object", "required": ["location", "format"], "properties": {
		"location": {"type": "string", "description": "The city"}, "format": {"type": "string", "enum": ["celsius", "fahrenheit"]}}}}}]`
)

var errLeftOut = errors.New("the server has no model minilm")

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: walk BASE_URL")
		os.Exit(2)
	}
	base, err := url.Parse(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	w := walk{api.NewClient(base, http.DefaultClient), context.Background()}
	steps := []struct {
		name string
		run  func() error
	}{
		{"version", w.version}, {"list", w.list}, {"show", w.show}, {"generate", w.generate}, {"chat", w.chat},
		{"chat, streamed", w.chatStreamed}, {"think", w.think}, {"tools, and their result", w.tools},
		{"structured output", w.structured}, {"embed", w.embed}, {"copy, use and delete", w.copyAndDelete},
		{"ps", w.ps}, {"a model that is not there", w.missing}, {"two streams at once", w.twoStreams},
	}
	passed, failed, leftOut := 0, 0, 0
	for _, step := range steps {
		switch err := step.run(); {
		case err == nil:
			passed++
			fmt.Println("ok       ollama:", step.name)
		case errors.Is(err, errLeftOut):
			leftOut++
			fmt.Printf("left out ollama: %s: %v\n", step.name, err)
		default:
			failed++
			fmt.Printf("FAILED   ollama: %s: %v\n", step.name, err)
		}
	}
	fmt.Printf("go: %d steps ok, %d failed, %d left out\n", passed, failed, leftOut)
	if failed > 0 {
		os.Exit(1)
	}
}

type walk struct {
	client *api.Client
	ctx    context.Context
}

func same(have, want any) error {
	if !reflect.DeepEqual(have, want) {
		return fmt.Errorf("%#v for %#v", have, want)
	}
	return nil
}

// answer gathers a chat's parts; whole asks for one reply instead of a stream.
func (w walk) answer(request api.ChatRequest, think, whole bool) (message api.Message, parts int, err error) {
	request.Model, request.Think = model, &api.ThinkValue{Value: think}
	if whole {
		request.Stream = new(bool)
	}
	done := false
	err = w.client.Chat(w.ctx, &request, func(part api.ChatResponse) error {
		parts++
		message.Role = part.Message.Role
		message.Content += part.Message.Content
		message.Thinking += part.Message.Thinking
		message.ToolCalls = append(message.ToolCalls, part.Message.ToolCalls...)
		done = part.Done
		return nil
	})
	if err == nil && !done {
		err = errors.New("the last part is not done")
	}
	return message, parts, err
}

func ask(question string) api.ChatRequest {
	return api.ChatRequest{Messages: []api.Message{{Role: "user", Content: question}}}
}

func (w walk) version() error {
	version, err := w.client.Version(w.ctx)
	if err == nil && strings.Count(version, ".") != 2 {
		err = fmt.Errorf("version %q", version)
	}
	return err
}

func (w walk) names() (map[string]api.ListModelResponse, error) {
	list, err := w.client.List(w.ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]api.ListModelResponse{}
	for _, entry := range list.Models {
		names[entry.Name] = entry
	}
	return names, nil
}

func (w walk) list() error {
	names, err := w.names()
	if err != nil {
		return err
	}
	tiny := names["tiny:latest"]
	if len(tiny.Digest) != 64 || tiny.Size < 7_000_000 || tiny.ModifiedAt.IsZero() {
		return fmt.Errorf("%+v", tiny)
	}
	return same(tiny.Details.Family, "qwen3")
}

func (w walk) show() error {
	shown, err := w.client.Show(w.ctx, &api.ShowRequest{Model: model})
	if err != nil {
		return err
	}
	if !strings.Contains(shown.Template, "<|im_start|>") || len(shown.Tensors) == 0 || len(shown.Capabilities) < 3 {
		return fmt.Errorf("%+v", shown)
	}
	return same(shown.ModelInfo["general.architecture"], "qwen3")
}

func (w walk) generate() error {
	var last api.GenerateResponse
	request := api.GenerateRequest{Model: model, Prompt: "Ping", Stream: new(bool), Think: &api.ThinkValue{Value: false}}
	err := w.client.Generate(w.ctx, &request, func(part api.GenerateResponse) error {
		last = part
		return nil
	})
	if err != nil {
		return err
	}
	if len(last.Context) == 0 || last.EvalCount == 0 || last.LoadDuration == 0 {
		return fmt.Errorf("%+v", last)
	}
	return same([]string{last.Response, last.DoneReason}, []string{"Pong", "stop"})
}

func (w walk) chat() error {
	message, parts, err := w.answer(ask("Ping"), false, true)
	if err != nil {
		return err
	}
	return same([]any{message.Role, message.Content, parts}, []any{"assistant", "Pong", 1})
}

func (w walk) chatStreamed() error {
	message, parts, err := w.answer(ask("Count from 1 to 10."), false, false)
	if err != nil {
		return err
	}
	return same([]any{message.Content, parts > 2}, []any{count, true})
}

func (w walk) think() error {
	message, _, err := w.answer(ask("How many r are in strawberry?"), true, false)
	if err != nil {
		return err
	}
	return same([]string{strings.TrimSpace(message.Thinking), message.Content},
		[]string{"s t r a w b e r r y: r at 3, 8 and 9. That is three.", "There are 3."})
}

func (w walk) tools() error {
	request := ask("What is the weather today in Paris?")
	if err := json.Unmarshal([]byte(tool), &request.Tools); err != nil {
		return err
	}
	message, _, err := w.answer(request, false, false)
	if err != nil {
		return err
	}
	if len(message.ToolCalls) != 1 {
		return fmt.Errorf("%+v", message)
	}
	call := message.ToolCalls[0].Function
	if err := same([]any{call.Name, call.Arguments.ToMap()},
		[]any{"get_current_weather", map[string]any{"location": "Paris", "format": "celsius"}}); err != nil {
		return err
	}
	result := api.Message{Role: "tool", ToolName: call.Name, ToolCallID: message.ToolCalls[0].ID, Content: "22 degrees"}
	request.Messages = append(request.Messages, message, result)
	message, _, err = w.answer(request, false, true)
	if err != nil {
		return err
	}
	return same(message.Content, "It is 22 degrees in Paris.")
}

func (w walk) structured() error {
	request := ask("Describe a person as JSON.")
	request.Format = json.RawMessage(schema)
	message, _, err := w.answer(request, false, true)
	if err != nil {
		return err
	}
	var have, want any
	if err := errors.Join(json.Unmarshal([]byte(message.Content), &have), json.Unmarshal([]byte(person), &want)); err != nil {
		return fmt.Errorf("%q: %w", message.Content, err)
	}
	return same(have, want)
}

func (w walk) embed() error {
	names, err := w.names()
	if err != nil {
		return err
	}
	if _, there := names["minilm:latest"]; !there {
		return errLeftOut
	}
	reply, err := w.client.Embed(w.ctx, &api.EmbedRequest{Model: "minilm", Input: []string{"why is the sky blue?", "a"}})
	if err != nil {
		return err
	}
	if len(reply.Embeddings) != 2 {
		return fmt.Errorf("%d embeddings", len(reply.Embeddings))
	}
	return same([]int{len(reply.Embeddings[0]), len(reply.Embeddings[1])}, []int{384, 384})
}

func (w walk) copyAndDelete() error {
	if err := w.client.Copy(w.ctx, &api.CopyRequest{Source: model, Destination: "tiny-go"}); err != nil {
		return err
	}
	if shown, err := w.client.Show(w.ctx, &api.ShowRequest{Model: "tiny-go"}); err != nil || shown.Details.Family != "qwen3" {
		return fmt.Errorf("the copy: %v, %v", shown, err)
	}
	if err := w.client.Delete(w.ctx, &api.DeleteRequest{Model: "tiny-go"}); err != nil {
		return err
	}
	names, err := w.names()
	if _, there := names["tiny-go:latest"]; there {
		return errors.New("deleted and still there")
	}
	return err
}

func (w walk) ps() error {
	if _, _, err := w.answer(ask("Ping"), false, true); err != nil {
		return err
	}
	running, err := w.client.ListRunning(w.ctx)
	if err != nil {
		return err
	}
	for _, entry := range running.Models {
		if entry.Name == "tiny:latest" && entry.Size > 0 && !entry.ExpiresAt.IsZero() && entry.ContextLength > 0 {
			return nil
		}
	}
	return fmt.Errorf("%+v", running.Models)
}

func (w walk) missing() error {
	_, err := w.client.Show(w.ctx, &api.ShowRequest{Model: "nope"})
	var status api.StatusError
	if !errors.As(err, &status) {
		return fmt.Errorf("error %v", err)
	}
	return same([]any{status.StatusCode, status.ErrorMessage}, []any{404, "model 'nope:latest' not found"})
}

func (w walk) twoStreams() error {
	questions := []string{"Count from 1 to 10.", "List three fruits."}
	texts, errs := make([]string, 2), make(chan error, 2)
	for i, question := range questions {
		go func() {
			message, _, err := w.answer(ask(question), false, false)
			texts[i] = message.Content
			errs <- err
		}()
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		return err
	}
	return same(texts, []string{count, "1. apple\n2. banana\n3. cherry"})
}
