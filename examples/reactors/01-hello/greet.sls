{# A minion has started: say hello on it. "tojson" quotes, so that a value stays a value. #}
greet_the_minion:
  local.test.echo:
    - tgt: {{ data['id'] | tojson }}
    - args:
      - text: {{ ("Hello, " ~ data['id'] ~ "!") | tojson }}
